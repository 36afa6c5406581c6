"""MRC: every order of the axes, against mrcfile; real densities, and broken files."""

import itertools
import pathlib
import warnings

import mrcfile
import numpy as np
import pytest

from imgcls.core.errors import DataError
from imgcls.data.decode.volume import decode_volume, is_volume
from tests.conftest import REPO
from tests.data.scans import SHAPE, SPACING, draw, write_mrc

MAPS = REPO / ".." / "shared" / "data" / "cryo_maps"
FLAWED = {
    "machine stamp": 8,
    "space group 1065353216": 5,
    "no voxel size": 1,
}


@pytest.mark.parametrize("axes", [*itertools.permutations((1, 2, 3))])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_orders_of_the_axes(tmp_path, axes, compression):
    path = write_mrc(tmp_path / "a.map", draw(np.float32), axes, compression=compression)
    data = path.read_bytes()
    assert is_volume(data, "x")
    volume = decode_volume(data, "x")
    np.testing.assert_array_equal(volume.voxels, draw(np.float32)[..., None])
    assert volume.voxels.dtype == np.float32 and volume.spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_types(tmp_path, dtype):
    voxels = (draw(np.uint8) // 2).astype(dtype)
    volume = decode_volume(write_mrc(tmp_path / "a.mrc", voxels).read_bytes(), "x")
    np.testing.assert_array_equal(volume.voxels[..., 0], voxels)
    assert volume.voxels.dtype == (np.float32 if np.dtype(dtype).kind == "f" else np.int16)


def test_big_endian_with_an_extended_header(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(draw(">f4"))
        file.set_extended_header(np.frombuffer(b"x" * 160, "V160"))
        assert file.header.machst[0] == 0x11
    volume = decode_volume((tmp_path / "a.mrc").read_bytes(), "x")
    np.testing.assert_array_equal(volume.voxels[..., 0], draw())
    assert volume.voxels.dtype.isnative


@pytest.mark.skipif(not MAPS.is_dir(), reason="needs ../shared/data/cryo_maps")
def test_real_densities(capsys):
    paths = sorted(path for path in MAPS.iterdir() if path.suffix != ".txt")
    assert len(paths) == 17
    for path in paths:
        volume = decode_volume(path.read_bytes(), path.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = mrcfile.open(path, permissive=True)
        header, size = file.header, file.voxel_size
        axes = [int(header[key]) for key in ("maps", "mapr", "mapc")]
        expected = np.moveaxis(file.data, range(3), [3 - axis for axis in axes])
        np.testing.assert_array_equal(volume.voxels[..., 0], expected)
        if volume.spacing is None:
            assert size.x == 0
        else:
            assert volume.spacing == pytest.approx([float(size[axis]) for axis in "zyx"])
    lines = capsys.readouterr().err.splitlines()
    for flaw, count in FLAWED.items():
        assert sum(flaw in line for line in lines) == count
    assert len(lines) == 9 and all("flawed header: " in line for line in lines)


def edit(tmp_path: pathlib.Path, **fields) -> bytes:
    data = bytearray(write_mrc(tmp_path / "a.mrc", draw(np.float32)).read_bytes())
    header = np.frombuffer(memoryview(data)[:1024], mrcfile.dtypes.HEADER_DTYPE)
    for name, value in fields.items():
        header[name] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(nx=30_000, ny=30_000, nz=30_000), "27,000,000,000,000 voxels, more than"),
        (dict(nx=-7), r"declares \[5, 6, -7\]"),
        (dict(nsymbt=-1024), "declares an extended header of -1,024 bytes"),
        (dict(nsymbt=2**31 - 1), "places the voxels at byte"),
        (dict(nsymbt=4), "truncated: its header declares 840 bytes of voxels, and 836 are there"),
        (dict(mode=4), "has values of type complex64"),
        (dict(mode=77), "broken MRC header"),
        (dict(ispg=401, mz=1), "is a stack of 5 volumes; write one file per volume"),
    ],
)
def test_broken_files(tmp_path, fields, message):
    with pytest.raises(DataError, match=f"^x: .*{message}"):
        decode_volume(edit(tmp_path, **fields), "x")


@pytest.mark.parametrize(
    ("fields", "flaw"),
    [
        (dict(mapc=0, mapr=0, maps=0), "axis order [0, 0, 0], read as [1, 2, 3]"),
        (dict(map=b"\0\0\0\0"), "no identifier 'MAP '"),
        (dict(machst=[0, 0, 0, 0]), "machine stamp 00 00 00 00, read as <"),
        (dict(ispg=999), "space group 999"),
        (dict(mx=0), "so no voxel size"),
    ],
)
def test_flaws_are_named_and_tolerated(tmp_path, capsys, fields, flaw):
    name = f"{sorted(fields)[0]}.mrc"
    data = edit(tmp_path, **fields)
    assert is_volume(data, name)
    volume = decode_volume(data, name)
    assert volume.voxels.shape == (*SHAPE, 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {name}: flawed header: ") and flaw in line


def test_short_files():
    with pytest.raises(DataError, match="x.map: not an MRC file: 3 bytes"):
        decode_volume(b"abc", "x.map")
