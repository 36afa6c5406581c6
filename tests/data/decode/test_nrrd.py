"""NRRD: every orientation and encoding, channels, and broken files."""

import gzip

import nrrd
import numpy as np
import pytest

from imgcls.core.errors import DataError
from imgcls.data.decode.volume import decode_volume, is_volume
from tests.data.scans import ORIENTATIONS, SPACING, draw, write_nrrd


def read(path):
    data = path.read_bytes()
    assert is_volume(data, "x")
    return decode_volume(data, "x")


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids="".join)
def test_orientations(tmp_path, orientation):
    volume = read(write_nrrd(tmp_path / "a.nrrd", draw(), orientation))
    np.testing.assert_array_equal(volume.voxels, draw()[..., None])
    assert volume.voxels.dtype == np.int16 and volume.spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("dtype", [np.uint8, ">i2", np.uint16, np.int32, np.float32, np.float64])
def test_encodings_and_types(tmp_path, encoding, dtype):
    voxels = draw(np.uint8).astype(dtype)
    volume = read(write_nrrd(tmp_path / "a.nrrd", voxels, encoding=encoding))
    np.testing.assert_array_equal(volume.voxels[..., 0], voxels)
    assert volume.voxels.dtype.name in ("uint8", "int16", "float32")


def test_without_a_patient(tmp_path):
    """Axes stay as they are; the spacing may be there."""
    path = tmp_path / "a.nrrd"
    nrrd.write(str(path), draw().T, {"spacings": SPACING[::-1]})
    volume = read(path)
    np.testing.assert_array_equal(volume.voxels[..., 0], draw())
    assert volume.spacing == pytest.approx(SPACING)
    nrrd.write(str(path), draw().T)
    assert read(path).spacing is None


@pytest.mark.parametrize("axis", [0, 3])
def test_channels(tmp_path, axis):
    voxels = np.stack([draw(seed=seed) for seed in range(3)], -1)
    stored = np.moveaxis(voxels.transpose(2, 1, 0, 3), -1, axis)
    kinds = ["domain"] * 3
    kinds.insert(axis, "list")
    directions = np.insert(np.diag(SPACING[::-1]), axis, np.nan, axis=0)
    path = tmp_path / "a.nrrd"
    for header in ({"kinds": kinds}, {"space": "RAS", "space directions": directions}):
        nrrd.write(str(path), stored, header)
        np.testing.assert_array_equal(read(path).voxels, voxels)
    assert read(path).spacing == pytest.approx(SPACING)
    nrrd.write(str(path), stored)
    with pytest.raises(DataError, match="x: has 4 axes, .* states no axis of channels"):
        read(path)


HEADER = "NRRD0004\ntype: {}\ndimension: 3\nsizes: {}\nencoding: {}\nendian: little\n{}\n"


def edit(kind="short", sizes="2 3 4", encoding="raw", more="", data=bytes(48)) -> bytes:
    return HEADER.format(kind, sizes, encoding, more).encode() + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (edit(sizes="30000 30000 30000"), "27,000,000,000,000 voxels, more than"),
        (edit(sizes="2 -3 4"), "declares the shape"),
        (edit(data=bytes(47)), "truncated: its header declares 48 bytes of voxels, and 47 are"),
        (edit(encoding="gzip"), "broken gzip data"),
        (
            edit(encoding="gzip", data=gzip.compress(bytes(9), mtime=0)),
            "truncated: .* and 9 are there",
        ),
        (edit(encoding="ascii"), "is encoded as ascii; save it as raw, gzip or bzip2"),
        (edit(kind="block"), "of type block; a volume has 3 or 4 axes"),
        (edit(more="data file: /etc/passwd\n"), "its voxels are in another file"),
        (edit(more="byte skip: -1\n"), "its header skips bytes"),
        (b"NRRD0004\nnothing", "broken NRRD header"),
        (
            edit(more="space: RAS\nspace directions: (0,0,0) (0,1,0) (0,0,1)\n"),
            "states no orientation: the affine .* is singular",
        ),
    ],
)
def test_broken_files(data, message):
    with pytest.raises(DataError, match=f"^x: .*{message}"):
        decode_volume(data, "x")


def test_bombs_are_read_as_far_as_declared():
    bomb = edit(encoding="gzip", data=gzip.compress(bytes(48)) + gzip.compress(bytes(2**24)) * 64)
    assert decode_volume(bomb, "x").voxels.shape == (4, 3, 2, 1)
