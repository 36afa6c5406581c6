"""Volumes that only differ in how they are written."""

import itertools
import pathlib

import numpy as np

# Different sides and spacings, so that a swapped axis shows. Spacing along D, H, W in mm.
SHAPE, SPACING = (5, 6, 7), (2.5, 0.75, 1.25)
# Every orientation: the axes of the patient in the order of storage, each in either direction.
ORIENTATIONS = [
    tuple(pair[flip] for pair, flip in zip(axes, flips, strict=True))
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for flips in itertools.product((0, 1), repeat=3)
]


def draw(dtype=np.int16, seed: int = 0) -> np.ndarray:
    """Voxels `[D, H, W]` from -1000 to 3000, or uint8."""
    low, high = (0, 256) if dtype == np.uint8 else (-1000, 3000)
    return np.random.default_rng(seed).integers(low, high, SHAPE).astype(dtype)


def write_nifti(
    path: pathlib.Path, voxels: np.ndarray, orientation=("R", "A", "S"), spacing=SPACING
) -> pathlib.Path:
    """Writes `[D, H, W]` or `[D, H, W, C]`, stored in an orientation."""
    import nibabel
    from nibabel import orientations

    stored = np.moveaxis(voxels, (0, 1, 2), (2, 1, 0))
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = (-30, 12, 7)
    move = orientations.ornt_transform(
        orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(orientation)
    )
    affine = affine @ orientations.inv_ornt_aff(move, stored.shape[:3])
    stored = orientations.apply_orientation(stored, move)
    nibabel.save(nibabel.Nifti1Image(stored, affine), path)
    return path


def write_mrc(
    path: pathlib.Path, voxels: np.ndarray, axes=(1, 2, 3), spacing=SPACING, compression=None
) -> pathlib.Path:
    """Writes `[D, H, W]`; `axes` are those of columns, rows and sections: 1, 2, 3 for x, y, z."""
    import mrcfile

    stored = voxels.transpose([3 - axis for axis in axes[::-1]])
    with mrcfile.new(path, compression=compression) as file:
        file.set_data(np.ascontiguousarray(stored))
        file.set_volume()
        file.header.mapc, file.header.mapr, file.header.maps = axes
        intervals = dict(zip("zyx", voxels.shape, strict=True))
        for (axis, count), side in zip(intervals.items(), spacing, strict=True):
            file.header[f"m{axis}"] = count
            file.header.cella[axis] = count * side
    return path


def write_nrrd(
    path: pathlib.Path,
    voxels: np.ndarray,
    orientation=("R", "A", "S"),
    spacing=SPACING,
    encoding="raw",
) -> pathlib.Path:
    """Writes `[D, H, W]` in the space LPS, stored in an orientation."""
    import nrrd
    from nibabel import orientations

    stored = voxels.T
    affine = np.diag([*spacing[::-1], 1.0])
    move = orientations.ornt_transform(
        orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(orientation)
    )
    affine = np.diag([-1, -1, 1, 1]) @ affine @ orientations.inv_ornt_aff(move, stored.shape)
    header = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T,
        "encoding": encoding,
    }
    stored = orientations.apply_orientation(stored, move)
    nrrd.write(str(path), np.asfortranarray(stored), header)
    return path


def write_tiff(path: pathlib.Path, voxels: np.ndarray, spacing=SPACING) -> pathlib.Path:
    """Writes `[D, H, W]` as pages, described as by ImageJ."""
    from PIL import Image, TiffImagePlugin

    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = f"ImageJ=1.54f\nimages={len(voxels)}\nslices={len(voxels)}\nspacing={spacing[0]}\n"
    tags[282], tags[283] = 1 / spacing[2], 1 / spacing[1]
    first, *others = [Image.fromarray(page) for page in voxels]
    first.save(path, save_all=True, append_images=others, tiffinfo=tags)
    return path


def write_dicom(
    folder: pathlib.Path, voxels: np.ndarray, spacing=SPACING, series="1.2.3", **changes
) -> list[pathlib.Path]:
    """Writes int16 `[D, H, W]` as an axial series of CT, one file per slice, all names shuffled.

    Instance numbers are reversed. Rows run from anterior to posterior and columns from right to
    left, as scanners write them: in DICOM's axes (left, posterior, superior) both grow.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(len(voxels)).permutation(len(voxels))
    paths = []
    for number, page in enumerate(voxels):
        dataset, meta = Dataset(), FileMetaDataset()
        meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{series}.{number + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta = meta
        dataset.PatientName, dataset.PatientID = "Doe^Jane", "J-4711"
        dataset.SeriesInstanceUID, dataset.InstanceNumber = series, len(voxels) - number
        dataset.ImagePositionPatient = [-30, -12, 7 + number * spacing[0]]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing = [spacing[1], spacing[2]]
        dataset.Rows, dataset.Columns = page.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        # Columns from right to left, rows from anterior to posterior.
        stored = (page[::-1, ::-1].astype(np.int32) + 1024).astype(np.uint16)
        dataset.PixelData = stored.tobytes()
        for key, value in changes.items():
            setattr(dataset, key, value(number) if callable(value) else value)
        path = folder / f"{series}_IM{order[number]:04d}"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
