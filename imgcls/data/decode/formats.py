"""The formats of files that are decoded, by extension and by the first bytes."""

import functools
import importlib.util

from PIL import features

# Pillow's formats and their extensions. Listed explicitly: Pillow also supports formats that start
# other programs (EPS).
_EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),
}
# Those of which a folder is a video; a GIF is one itself.
FRAME_EXTENSIONS = tuple(e for name, all_ in _EXTENSIONS.items() if name != "GIF" for e in all_)
# Arrays of images or volumes.
_ARRAYS = (".npy",)
HEIF_EXTENSIONS = _EXTENSIONS["HEIF"]
# Formats of volumes, which `decode/volume.py` tells by their first bytes.
VOLUME_EXTENSIONS = (
    *(".nii", ".nii.gz", ".mrc", ".mrc.gz", ".map", ".map.gz", ".ccp4", ".ccp4.gz", ".nrrd"),
)
# Arrays are volumes where a folder has nothing else: beside images they hold features and the like.
ARRAY_EXTENSIONS = (".npy", ".npz")
INSTALL_HEIF = "run `pip install -r requirements-heif.txt`"
# Number of bytes that identify the format of a file, and the series of a DICOM file.
START = 2**16
DICOM_EXTENSIONS = (".dcm", ".dicom", ".ima")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@functools.cache
def decoded_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are decoded; HEIF is one if pillow-heif is installed."""
    missing = () if features.check("avif") else ("AVIF",)
    if importlib.util.find_spec("pillow_heif") is None:
        missing += ("HEIF",)
    else:
        import pillow_heif  # pyright: ignore[reportMissingImports]

        pillow_heif.register_heif_opener()
    return tuple(name for name in _EXTENSIONS if name not in missing)


@functools.cache
def extensions() -> tuple[str, ...]:
    """Extensions of the formats that are decoded, in lower case."""
    images = tuple(e for name in decoded_formats() for e in _EXTENSIONS[name])
    return images + VOLUME_EXTENSIONS + _ARRAYS


def find_format(start: bytes) -> str | None:
    """The format of a file by its first `START` bytes; None for those that these don't tell.

    BMP, TIFF and PPM are left out: TIFF also holds raw photos, and text may begin like the others.
    """
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return "HEIF" if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS else None
