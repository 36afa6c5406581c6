"""`.npy` streams and volumes of them: NumPy's own files, and hostile ones."""

import io
import pickle
import struct

import numpy as np
import pytest

from imgcls.core.errors import DataError
from imgcls.data.decode.npy import read_npy
from imgcls.data.decode.volume import decode_volume, is_volume


def save(array, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def read(data: bytes) -> np.ndarray:
    return read_npy(io.BytesIO(data), len(data), "x.npy")


def header(text: str) -> bytes:
    """A file of version 1.0 with this header and no values."""
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("dtype", ["uint8", "bool", "<i2", ">i4", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (2, 3, 4, 1)])
def test_reads_what_numpy_writes(dtype, shape):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    for each in (array, np.asfortranarray(array), array.T):
        found = read(save(each))
        np.testing.assert_array_equal(found, each)
        assert found.dtype == each.dtype.newbyteorder("=")


class Marked:
    """Its pickle calls a function when it is loaded."""

    called = False

    def __reduce__(self):
        return (setattr, (Marked, "called", True))


def test_pickles_are_refused_and_not_run():
    data = save(np.array([Marked()], object), allow_pickle=True)
    with pytest.raises(DataError, match="holds values of type object, not numbers"):
        read(data)
    assert not Marked.called
    pickle.loads(pickle.dumps(Marked()))
    assert Marked.called


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a .npy file"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "version 9.0 of the format"),
        (save(np.zeros(9))[:-1], r"its shape \(9,\) takes 72 bytes, and 71 are there"),
        (save(np.zeros(9)) + b"x", "takes 72 bytes, and 73"),
        (
            header("{'descr': '|u1', 'fortran_order': False, 'shape': (30000, 30000, 30000)}"),
            "larger than",
        ),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (-4,)}"), "x.npy"),
        (header("__import__('os').getcwd()"), "not a .npy file"),
        (save(np.zeros(2, [("a", int)])), "not numbers"),
        (save(np.array(["a"])), "not numbers"),
    ],
)
def test_broken_files(data, message):
    with pytest.raises(DataError, match=message):
        read(data)


def test_a_stream_that_ends_early():
    data = save(np.zeros(9))
    with pytest.raises(DataError, match="ends after 71 of 72 bytes"):
        read_npy(io.BytesIO(data[:-1]), len(data), "x.npy")


def test_volumes():
    voxels = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)
    data = save(voxels)
    assert is_volume(data, "x") and not is_volume(b"\xff\xd8\xff", "x")
    np.testing.assert_array_equal(decode_volume(data, "x").voxels, voxels[..., None])
    colors = np.repeat(voxels[..., None], 2, -1)
    np.testing.assert_array_equal(decode_volume(save(colors), "x").voxels, colors)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.uint8), np.zeros((2,) * 5), np.zeros((0, 4, 4), np.uint8)],
)
def test_other_arrays_are_not_volumes(array):
    with pytest.raises(DataError, match=r"x: is a .* array .*; volumes are numbers \[D, H, W\]"):
        decode_volume(save(array), "x")
