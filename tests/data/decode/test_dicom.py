"""DICOM series: order, orientation, several in a folder, compression, and broken files."""

import io
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLosslessSV1, RLELossless

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.volume import decode_volume, encode_volume, is_volume
from imgcls.data.files import Files, list_folder, read_example
from tests.data.scans import SPACING, draw, write_dicom


def read(path):
    data = read_example(str(path))
    assert is_volume(data, str(path))
    return decode_volume(data, "x")


def test_slices_are_ordered_by_position(tmp_path):
    paths = write_dicom(tmp_path, draw())
    assert [*paths] != sorted(paths)
    for path in (paths[0], paths[3]):  # Any file of the series names it.
        volume = read(path)
        np.testing.assert_array_equal(volume.voxels, draw()[..., None])
        assert volume.voxels.dtype == np.int16 and volume.spacing == pytest.approx(SPACING)


def test_orientations(tmp_path):
    """Sagittal slices: columns run from anterior to posterior, rows from superior to inferior."""
    sagittal = draw().transpose(2, 0, 1)[:, ::-1, ::-1]
    write_dicom(
        tmp_path,
        # The writer reverses rows and columns, which is undone here.
        sagittal[:, ::-1, ::-1],
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
        ImagePositionPatient=lambda n: [-n * SPACING[2], 0, 0],
        PixelSpacing=[SPACING[0], SPACING[1]],
    )
    volume = read(next(tmp_path.iterdir()))
    np.testing.assert_array_equal(volume.voxels[..., 0], draw())
    assert volume.spacing == pytest.approx(SPACING)


def test_series_of_a_folder_are_told_apart(tmp_path):
    series = {s: write_dicom(tmp_path / "a", draw(seed=n), series=s) for n, s in
              enumerate(("1.2.3", "1.2.4"))}  # fmt: skip
    write_dicom(tmp_path / "b", draw(seed=2), series="1.2.3")
    (tmp_path / "b" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    listing = list_folder(str(tmp_path))
    assert listing.images == ["a/1.2.3_IM0000", "a/1.2.4_IM0000", "b/1.2.3_IM0000"]
    assert listing.others == ["b/DICOMDIR"]
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in [*tmp_path.glob("?/*")]:
            file.write(path, path.relative_to(tmp_path))
    files = Files(str(archive), "folder:x")
    assert files.listing().images == listing.images
    for seed, path in enumerate(listing.images):
        for data in (read_example(str(tmp_path / path)), files.read(path)):
            np.testing.assert_array_equal(decode_volume(data, "x").voxels[..., 0], draw(seed=seed))
    assert len(series["1.2.3"]) == 5


def test_a_new_slice_is_noticed(tmp_path):
    """The files of a folder are cached until it changes."""
    paths = write_dicom(tmp_path, draw())
    last = paths[-1].read_bytes()
    paths[-1].unlink()
    assert read(paths[0]).voxels.shape[0] == 4
    paths[-1].write_bytes(last)
    assert read(paths[0]).voxels.shape[0] == 5


def test_frames_of_one_file(tmp_path):
    """Enhanced CT: positions and rescaling are in sequences, frames in any order."""
    slices = [pydicom.dcmread(path) for path in write_dicom(tmp_path / "slices", draw())]
    slices = [slices[i] for i in (3, 0, 4, 1, 2)]
    whole = slices[0]
    frames, shared = [], pydicom.Dataset()
    for dataset in slices:
        frame, plane = pydicom.Dataset(), pydicom.Dataset()
        plane.ImagePositionPatient = dataset.ImagePositionPatient
        frame.PlanePositionSequence = [plane]
        frames.append(frame)
    orientation, measures, values = (pydicom.Dataset() for _ in range(3))
    orientation.ImageOrientationPatient = whole.ImageOrientationPatient
    measures.PixelSpacing = whole.PixelSpacing
    values.RescaleSlope, values.RescaleIntercept = whole.RescaleSlope, whole.RescaleIntercept
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    shared.PixelValueTransformationSequence = [values]
    pixels = b"".join(dataset.PixelData for dataset in slices)
    for key in ("Position", "Orientation"):
        del whole[f"Image{key}Patient"]
    del whole.PixelSpacing, whole.RescaleSlope, whole.RescaleIntercept
    whole.NumberOfFrames, whole.PixelData = len(slices), pixels
    whole.SharedFunctionalGroupsSequence = [shared]
    whole.PerFrameFunctionalGroupsSequence = frames
    whole.save_as(tmp_path / "whole.dcm")
    volume = read(tmp_path / "whole.dcm")
    np.testing.assert_array_equal(volume.voxels[..., 0], draw())
    assert volume.spacing == pytest.approx(SPACING)


def test_slope_per_slice(tmp_path):
    """As PET scanners write it."""
    write_dicom(tmp_path, draw(), RescaleSlope=lambda n: n + 0.5, RescaleIntercept=0)
    found = read(next(tmp_path.iterdir())).voxels[..., 0]
    slopes = np.arange(5, dtype=np.float32)[:, None, None] + 0.5
    np.testing.assert_allclose(found, (draw().astype(np.float32) + 1024) * slopes, rtol=1e-6)


def test_compression(tmp_path):
    for path in write_dicom(tmp_path / "rle", draw()):
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    np.testing.assert_array_equal(read(path).voxels[..., 0], draw())
    (path, *_) = write_dicom(tmp_path / "jpeg", draw()[:1])
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(ConfigError, match="x: is compressed as JPEG Lossless.*: run `pip install"):
        read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(ImagePositionPatient=[0, 0, 7]), "two of its 5 slices have the same position"),
        (
            dict(ImagePositionPatient=lambda n: [0, 0, n + (n > 2)]),
            "its 5 slices have distances from 1 to 2 mm: slices are missing",
        ),
        (
            dict(ImageOrientationPatient=lambda n: [1, 0, 0, 0, 1, 0] if n else [0, 1, 0, 0, 0, 1]),
            "slices of different orientations or spacings, such as a scout",
        ),
        (dict(ImageOrientationPatient=None), "5 of 5 slices state no position"),
        (dict(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "x: "),
        (dict(Rows=30_000, Columns=30_000), "4,500,000,000 voxels, more than"),
        (dict(Rows=7), "x: its pixels can't be decoded"),
        (dict(RescaleSlope=0), "rescale slope 0.0 and intercept -1024.0"),
    ],
)
def test_what_is_not_a_stack(tmp_path, changes, message):
    write_dicom(tmp_path, draw(), **changes)
    with pytest.raises(DataError, match=message):
        read(next(tmp_path.iterdir()))


def nested(depth: int) -> bytes:
    """A file of sequences inside sequences, of undefined length."""
    item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return item * depth


def test_broken_files(tmp_path):
    (path, *_) = write_dicom(tmp_path, draw()[:1])
    data = path.read_bytes()
    for broken in (data[:140], data[:-10], bytes(128) + b"DICM" + b"\xff" * 99):
        with pytest.raises(DataError, match="^x: "):
            decode_volume(broken, "x")
    # The meta header ends where the first element of group 8 begins.
    start = data.index(b"\x08\x00\x16\x00UI")
    with pytest.raises(DataError, match="^x: "):
        decode_volume(data[:start] + nested(100_000), "x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a").write_bytes(data[:start] + nested(10_000))
    assert list_folder(str(tmp_path / "broken")).images == ["a"]


def test_no_name_of_a_person_is_kept(tmp_path):
    path = write_dicom(tmp_path, draw())[0]
    data = read_example(str(path))
    assert b"Doe^Jane" in data and b"J-4711" in data
    encoded = encode_volume(data, "x")
    assert b"Jane" not in encoded and b"4711" not in encoded
    assert [*np.load(io.BytesIO(encoded))] == ["voxels", "spacing"]
    np.testing.assert_array_equal(decode_volume(encoded, "x").voxels[..., 0], draw())
