"""Density maps as classes: views, splits, and what is wrong with a folder."""

import pickle

import numpy as np
import pytest
from scipy import ndimage

from imgcls.core.errors import ConfigError
from imgcls.data.decode.volume import decode_volume
from imgcls.data.sources.open import create_source
from tests.data.scans import write_mrc

BOX = "resample((1, 1, 1))|pad3d(14)|center_crop3d(14)"
SPINS = f"{BOX}|affine3d(180, scale=(1, 1), translate=0.1)"


def draw(sign: int) -> np.ndarray:
    """Four balls of different densities, with a right or left hand."""
    z, y, x = np.mgrid[:10, :10, :10] - 4.5
    density = np.zeros((10, 10, 10), np.float32)
    for height, at in ((8, (-2, -2, -2)), (4, (2, 0, -2)), (2, (0, 3, 0)), (1, (0, -2, 3))):
        density += height * np.exp(-((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2) / 1.5)
    return density[:, :, ::sign]


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    write_mrc(folder / "right.mrc", draw(1), spacing=(1.25, 1.25, 1.25))
    write_mrc(folder / "left.map.gz", draw(-1), (3, 1, 2), spacing=(1, 1, 1), compression="gzip")
    (folder / "README.txt").write_text("two maps")
    return folder


def voxels(source, index: int) -> np.ndarray:
    return decode_volume(source[index]["image"], source.name(index)).voxels[..., 0]


def test_views(maps):
    source = create_source(f"densities:{maps}|{SPINS}", "test", seed=3)
    assert source.class_names == ("left", "right") and len(source) == 200
    assert source.name(5) == "test/right/2" and source[5]["label"] == source.labels()[5] == 1
    volume = decode_volume(source[5]["image"], "view")
    assert volume.voxels.dtype == np.float32 and volume.spacing == (1, 1, 1)
    again = pickle.loads(pickle.dumps(create_source(f"densities:{maps}|{SPINS}", "test", seed=3)))
    assert again[5]["image"] == source[5]["image"] != source[7]["image"]
    part = create_source(f"densities:{maps}|{SPINS}", "test[:10%]", seed=3)
    names = {source.name(i): i for i in range(len(source))}
    assert len(part) == 20 and part[3]["image"] == source[names[part.name(3)]]["image"]
    other = create_source(f"densities:{maps}|{SPINS}", "test", seed=4)
    assert not np.array_equal(voxels(other, 5), voxels(source, 5))


def test_no_view_of_a_split_is_one_of_another(maps):
    seen = {}
    for split in ("train[:40]", "val", "test[:40]"):
        source = create_source(f"densities:{maps}|{SPINS}", split)
        for i in range(len(source)):
            assert seen.setdefault(voxels(source, i).tobytes(), split) == split
    assert len(seen) == 180


def hand(density: np.ndarray) -> float:
    """1 or -1: on which side of the three densest balls the fourth is."""
    peaks = np.argwhere((ndimage.maximum_filter(density, 3) == density) & (density > 0.1))
    order = np.argsort(-density[tuple(peaks.T)])[:4]
    first, *others = peaks[order].astype(float)
    return np.sign(np.linalg.det([other - first for other in others]))


@pytest.mark.parametrize("box", [SPINS, f"{BOX}|cube_rotation"])
def test_views_are_not_mirrored(maps, box):
    source = create_source(f"densities:{maps}|{box}", "val")
    hands = [hand(voxels(source, i)) for i in range(32)]
    assert hands == [hand(draw(-1)), hand(draw(1))] * 16 and hands[0] != hands[1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{maps}/none|rotate3d", "no such folder; write densities:FOLDER|TRANSFORMS"),
        ("{maps}/{{left.map.gz,top.mrc}}|rotate3d", "has no map top.mrc"),
        ("{maps}/{{left.map.gz}}|rotate3d", "has 1 maps .*, and each is a class"),
        ("{maps}|rotate3d|resample((1, 1, 1))", "write resample before the other transforms"),
        ("{maps}|rotate3", "unknown transform 'rotate3'.*rotate3d"),
        ("{maps}/{{left.map.gz,README.txt}}|rotate3d", "README.txt: .*leave it out"),
    ],
)
def test_mistakes(maps, spec, message):
    with pytest.raises(ConfigError, match=message):
        create_source(f"densities:{spec.format(maps=maps)}", "test")


def test_a_map_without_voxel_size(maps, tmp_path):
    write_mrc(tmp_path / "a.mrc", draw(1), spacing=(0, 0, 0))
    write_mrc(tmp_path / "b.mrc", draw(1), spacing=(1, 1, 1))
    with pytest.raises(ConfigError, match="a.mrc: states no voxel size, which resample needs"):
        create_source(f"densities:{tmp_path}|{BOX}", "test")
    assert (
        voxels(create_source(f"densities:{tmp_path}|cube_rotation", "test"), 0).shape == (10,) * 3
    )
    write_mrc(tmp_path / "b.map", draw(1), spacing=(1, 1, 1))
    with pytest.raises(ConfigError, match="has two maps named b"):
        create_source(f"densities:{tmp_path}|cube_rotation", "test")
