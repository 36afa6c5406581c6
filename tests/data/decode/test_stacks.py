"""Volumes in TIFF pages and `.npz` files."""

import io

import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import DataError
from imgcls.data.decode.volume import decode_volume, encode_volume, is_volume
from imgcls.data.loading.reader import Reader
from imgcls.data.sources.open import create_source
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS
from tests.data.scans import SHAPE, SPACING, draw, write_nifti, write_tiff


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_pages_are_slices(tmp_path, dtype):
    voxels = draw(np.uint8).astype(dtype)
    data = write_tiff(tmp_path / "a.tif", voxels).read_bytes()
    assert is_volume(data, "x", stacks=True) and not is_volume(data, "x")
    volume = decode_volume(data, "x")
    np.testing.assert_array_equal(volume.voxels[..., 0], voxels)
    assert volume.spacing == pytest.approx(SPACING)


def test_a_stack_without_spacing_and_in_color(tmp_path):
    voxels = np.stack([draw(np.uint8, seed) for seed in range(3)], -1)
    first, *others = [Image.fromarray(page) for page in voxels]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    volume = decode_volume((tmp_path / "a.tif").read_bytes(), "x")
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.spacing is None


def save_pages(path, pages, description=None) -> bytes:
    first, *others = [Image.fromarray(page) for page in pages]
    info = {} if description is None else {"tiffinfo": {270: description}}
    first.save(path, save_all=True, append_images=others, **info)
    return path.read_bytes()


def test_channels_of_imagej(tmp_path):
    """Its pages are ordered by slice, then channel."""
    pages = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
    data = save_pages(tmp_path / "a.tif", pages, "ImageJ=1.54f\nchannels=2\nslices=3\n")
    voxels = decode_volume(data, "x").voxels
    assert voxels.shape == (3, 4, 5, 2)
    np.testing.assert_array_equal(voxels[1, ..., 1], pages[3])
    data = save_pages(tmp_path / "b.tif", pages, "ImageJ=1.54f\nframes=6\n")
    with pytest.raises(DataError, match="x: has 6 points in time; save one file per volume"):
        decode_volume(data, "x")


def test_broken_stacks(tmp_path):
    data = save_pages(tmp_path / "a.tif", [np.zeros((4, 4), np.uint8), np.zeros((2, 4), np.uint8)])
    with pytest.raises(DataError, match=r"x: page 2 is \(4, 2\) of mode L, and the first"):
        decode_volume(data, "x")
    data = save_pages(tmp_path / "a.tif", [np.zeros((40, 40), np.uint8)] * 3)
    with pytest.raises(DataError, match="x: broken TIFF"):
        decode_volume(data[: len(data) // 2], "x")


def test_a_tiff_is_an_image_unless_the_transforms_are_of_volumes(tmp_path):
    for number in range(10):
        (tmp_path / "a").mkdir(exist_ok=True)
        write_tiff(tmp_path / "a" / f"{number}.tif", draw(np.uint8, number))
    source = create_source(f"folder:{tmp_path}", "train")
    for recipe, shape in (("", (6, 7, 1)), ("flip3d", (*SHAPE, 1))):
        reader = Reader(source, spec.parse(recipe, TRANSFORMS, "t"), 0, False, channels=1)
        assert reader.example(0)["image"].shape == shape


def save(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def test_npz():
    volume = decode_volume(save(scan=draw(), spacing=SPACING), "x")
    np.testing.assert_array_equal(volume.voxels[..., 0], draw())
    assert volume.spacing == SPACING
    assert decode_volume(save(a=draw(np.uint8)), "x").spacing is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (save(a=draw(), b=draw()), "has the arrays a, b; a volume is one array"),
        (save(spacing=SPACING), "has the arrays spacing; a volume is one array"),
        (save(a=draw(), spacing=(1, 2)), r"its spacing \[1, 2\] is not three positive numbers"),
        (save(a=draw(), spacing=(1, 2, -1)), "is not three positive numbers"),
        (save(a=np.array([{"a": 1}], object)), "holds values of type object, not numbers"),
        (save(a=draw()[0]), r"is a int16 array \[6, 7\]; volumes are numbers"),
        (save(a=draw())[:-30], "can't be read"),
    ],
)
def test_broken_npz(data, message):
    with pytest.raises(DataError, match=f"^x: .*{message}"):
        decode_volume(data, "x")


def test_npz_bombs_are_refused_before_they_are_read():
    data = bytearray(save(a=draw()))
    size = data.index(b"PK\1\2") + 24
    data[size : size + 4] = (2**32 - 2).to_bytes(4, "little")
    with pytest.raises(DataError, match="a takes 4,294,967,294 bytes, more than the 2,147,"):
        decode_volume(bytes(data), "x")


def test_encoding_keeps_voxels_and_spacing_and_no_name(tmp_path):
    """As `convert` writes volumes to records."""
    path = write_nifti(tmp_path / "a.nii", draw(), ("P", "S", "R"))
    data = path.read_bytes().replace(bytes(80), b"Jane Doe".ljust(80, b"\0"), 1)
    assert b"Jane Doe" in data
    encoded = encode_volume(data, "x")
    assert b"Jane Doe" not in encoded and encoded == encode_volume(data, "x")
    volume = decode_volume(encoded, "x")
    np.testing.assert_array_equal(volume.voxels, decode_volume(data, "x").voxels)
    assert volume.spacing == pytest.approx(SPACING)
