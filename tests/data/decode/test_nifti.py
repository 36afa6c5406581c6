"""NIfTI: every orientation, against nibabel; channels, scaling, and broken files."""

import gzip

import nibabel
import numpy as np
import pytest

from imgcls.core.errors import DataError
from imgcls.data.decode import voxels as voxels_lib
from imgcls.data.decode.volume import decode_volume, is_volume
from tests.data.scans import ORIENTATIONS, SHAPE, SPACING, draw, write_nifti


def read(path):
    data = path.read_bytes()
    assert is_volume(data, str(path))
    return decode_volume(data, "scan")


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids="".join)
def test_orientations(tmp_path, orientation):
    path = write_nifti(tmp_path / "a.nii", draw(), orientation)
    assert nibabel.aff2axcodes(nibabel.load(path).affine) == orientation
    volume = read(path)
    np.testing.assert_array_equal(volume.voxels, draw()[..., None])
    assert volume.voxels.dtype == np.int16 and volume.spacing == pytest.approx(SPACING)
    closest = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(volume.voxels[..., 0].T, np.asarray(closest.dataobj))
    assert volume.spacing[::-1] == pytest.approx(closest.header.get_zooms())


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


def test_oblique_axes_go_to_the_closest(tmp_path):
    angle = np.deg2rad(30)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.25, 0.75, 2.5])
    nibabel.save(nibabel.Nifti1Image(draw().T[::-1], affine), tmp_path / "a.nii")
    volume = read(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.voxels[..., 0], draw())
    assert volume.spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_types(tmp_path, dtype):
    voxels = draw(np.uint8).astype(dtype)
    volume = read(write_nifti(tmp_path / "a.nii", voxels))
    np.testing.assert_array_equal(volume.voxels[..., 0], voxels)
    kept = {"u": np.int16, "i": np.int16, "f": np.float32}[np.dtype(dtype).kind]
    assert volume.voxels.dtype == (np.uint8 if dtype == np.uint8 else kept)


def test_big_endian_nifti2_and_gzip(tmp_path):
    image = nibabel.Nifti2Image(draw().T, np.diag([1.25, 0.75, 2.5, 1]))
    big = image.header.as_byteswapped(">")
    data = nibabel.Nifti2Image(draw().T, image.affine, big).to_bytes()
    assert data[:4] == b"\0\0\x02\x1c"
    for encoded in (
        data,
        gzip.compress(data),
        gzip.compress(data[:900]) + gzip.compress(data[900:]),
    ):
        volume = decode_volume(encoded, "scan")
        np.testing.assert_array_equal(volume.voxels[..., 0], draw())
        assert volume.spacing == pytest.approx(SPACING)


def test_slope_and_intercept(tmp_path):
    image = nibabel.Nifti1Image(draw().T, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    # nibabel would scale the values back when it saves.
    data = bytearray(image.to_bytes())
    data[352:] = draw().T.tobytes(order="F")
    data[112:120] = np.array([0.5, -3], "<f4").tobytes()
    volume = decode_volume(bytes(data), "scan")
    assert volume.voxels.dtype == np.float32
    np.testing.assert_array_equal(volume.voxels[..., 0], draw() * np.float32(0.5) - 3)
    data[112:120] = np.array([2, -1024], "<f4").tobytes()
    volume = decode_volume(bytes(data), "scan")
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels[..., 0], draw() * 2 - 1024)


def test_units_of_meters(tmp_path):
    image = nibabel.Nifti1Image(draw().T, np.diag([0.00125, 0.00075, 0.0025, 1]))
    image.header.set_xyzt_units("meter")
    assert decode_volume(image.to_bytes(), "scan").spacing == pytest.approx(SPACING)


def test_fourth_axis_and_colors_become_channels(tmp_path):
    voxels = np.stack([draw(seed=seed) for seed in range(3)], -1)
    volume = read(write_nifti(tmp_path / "a.nii.gz", voxels, ("P", "S", "L")))
    np.testing.assert_array_equal(volume.voxels, voxels)
    vectors = nibabel.Nifti1Image(voxels.transpose(2, 1, 0, 3)[:, :, :, None], np.eye(4))
    np.testing.assert_array_equal(decode_volume(vectors.to_bytes(), "scan").voxels, voxels)
    colors = np.stack([draw(np.uint8, seed) for seed in range(3)], -1)
    rgb = np.dtype([(c, "u1") for c in "RGB"])
    stored = np.ascontiguousarray(colors.transpose(2, 1, 0, 3)).view(rgb)[..., 0]
    image = nibabel.Nifti1Image(stored, np.eye(4))
    np.testing.assert_array_equal(decode_volume(image.to_bytes(), "scan").voxels, colors)


def test_time_series_are_refused(tmp_path):
    path = write_nifti(tmp_path / "bold.nii", np.zeros((3, 3, 3, 200), np.int16))
    with pytest.raises(DataError, match="scan: has 200 volumes, .* write one file per volume"):
        read(path)


def edit(**fields) -> bytes:
    """A file with changed fields of the header."""
    data = bytearray(nibabel.Nifti1Image(draw().T, np.eye(4)).to_bytes())
    header = np.frombuffer(memoryview(data)[:348], nibabel.Nifti1Header.template_dtype)
    for name, value in fields.items():
        header[name] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (edit(dim=[3, 30_000, 30_000, 30_000, 1, 1, 1, 1]), "27,000,000,000,000 voxels, more than"),
        (edit(dim=[3, 30_000, 30_000, -1, 1, 1, 1, 1]), "declares the shape"),
        (edit(dim=[3, 0, 6, 5, 1, 1, 1, 1]), "declares the shape"),
        (edit(dim=[5, 7, 6, 5, 2, 2, 1, 1]), r"has the shape \[7, 6, 5, 2, 2\]; a volume has 3"),
        (edit(dim=[99, 7, 6, 5, 1, 1, 1, 1]), "scan: "),
        (edit(vox_offset=1e30), "places the voxels at byte"),
        (edit(vox_offset=np.nan), "scan: "),
        (edit(datatype=32, bitpix=64, dim=[3, 2, 2, 2, 1, 1, 1, 1]), "voxels of type complex64"),
        (edit(datatype=999), "broken NIfTI header"),
        (edit(srow_x=0, sform_code=1), "states no orientation: the affine .* is singular"),
        (edit(srow_x=np.nan, sform_code=1), "states no orientation"),
        (edit(magic=b"ni1"), "half of a pair .hdr and .img"),
        (edit()[:-1], "truncated: its header declares 420 bytes of voxels, and 419 are there"),
        (gzip.compress(edit()[:-1], mtime=0), "truncated: .* 419 are there"),
        (gzip.compress(edit(), mtime=0)[:-20], "scan: (broken gzip file|truncated)"),
        (gzip.compress(b"text", mtime=0), "not a volume in one of NIfTI, MRC"),
        (b"\x1f\x8bnothing", "broken gzip file"),
    ],
)
def test_broken_files(data, message):
    assert is_volume(data, "scan")
    with pytest.raises(DataError, match=message):
        decode_volume(data, "scan")


def test_flawed_headers_are_named(capsys):
    volume = decode_volume(edit(pixdim=[0, 1, -2, 1, 0, 0, 0, 0]), "flawed.nii")
    np.testing.assert_array_equal(volume.voxels[..., 0], draw())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: flawed.nii: flawed header: ") and "pixdim" in line


def test_bombs_are_read_as_far_as_declared(monkeypatch):
    """A gigabyte of zeros in a megabyte: only the voxels that the header declares are read."""
    taken = []
    read = voxels_lib.Stream._read
    monkeypatch.setattr(
        voxels_lib.Stream, "_read", lambda self, n: taken.append(read(self, n)) or taken[-1]
    )
    bomb = gzip.compress(edit()) + gzip.compress(bytes(2**28)) * 4
    assert decode_volume(bomb, "bomb").voxels.shape == (*SHAPE, 1)
    assert sum(map(len, taken)) <= 1024
    huge = gzip.compress(edit(dim=[3, 2000, 2000, 2000, 1, 1, 1, 1]) + bytes(2**20))
    with pytest.raises(DataError, match="8,000,000,000 voxels, more than"):
        decode_volume(huge, "bomb")
