"""Which files of a directory or zip are images, and which are passed over."""

import collections
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from imgcls.data.decode import formats
from imgcls.data.decode.containers import GIF_EXTENSION, VIDEO_EXTENSIONS, find_container
from imgcls.data.decode.dicom import is_dicom
from imgcls.data.series import group_series

# Files and folders that operating systems and network drives make, in lower case.
_SYSTEM_NAMES = {
    *("__macosx", "@eadir", "$recycle.bin", "#recycle", "system volume information", "lost+found"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini"),
}
# Extensions of files that lie beside images: descriptions, programs, models, archives.
_COMPANIONS = (
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".pdf"),
    *(".py", ".ipynb", ".sh", ".cfg", ".ini", ".log", ".xlsx", ".db", ".pt", ".pth", ".h5"),
    *(".onnx", ".pkl", ".safetensors", ".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"),
)


class Listing(NamedTuple):
    """The files and folders under a root without hidden ones, as sorted relative paths.

    Attributes:
      images: files of images and volumes; or those of videos, and folders of frames.
      others: other files, which are passed over.
      folders: folders, also those without files.
    """

    images: list[str]
    others: list[str]
    folders: list[str]


def list_files(
    paths: Iterable[str],
    folders: Iterable[str],
    read_start: Callable[[str], bytes],
    videos: bool = False,
) -> Listing:
    """Sorts the files under a root into images and others.

    Args:
      paths: relative paths of the files.
      folders: relative paths of the folders.
      read_start: returns the first bytes of a file, by which images without a usual extension are
        recognized; b'' if it can't be read.
      videos: whether videos are listed in place of images: their files, and folders of frames.
    """
    visible = sorted(path for path in paths if not is_hidden(path))
    if videos:
        images, others = _find_videos(visible, read_start)
    else:
        images, others = [], []
        for path in visible:
            (images if _is_image(path, read_start) else others).append(path)
        if not images:
            images, others = _find_volumes(others, read_start)
    return Listing(images, others, sorted(f for f in folders if f and not is_hidden(f)))


def _find_videos(
    paths: Iterable[str], read_start: Callable[[str], bytes]
) -> tuple[list[str], list[str]]:
    """Videos and folders of frames, and the other files.

    A folder with images, and without videos, is one example: its path is listed.
    """
    videos, frames, others = [], collections.defaultdict(list), []
    for path in paths:
        if _is_video(path, read_start):
            videos.append(path)
        elif path.lower().endswith(formats.FRAME_EXTENSIONS):
            frames[os.path.dirname(path)].append(path)
        else:
            others.append(path)
    for folder in {os.path.dirname(path) for path in videos}:
        others += frames.pop(folder, [])
    return sorted([*videos, *(folder or "." for folder in frames)]), sorted(others)


def _find_volumes(
    paths: list[str], read_start: Callable[[str], bytes]
) -> tuple[list[str], list[str]]:
    """DICOM series, named by their first file, and arrays; and the other files.

    Where there are images, these are exports of them, features and the like.
    """
    dicom = [p for p in paths if not is_companion(p) and is_dicom(read_start(p))]
    series = group_series(dicom, read_start)
    arrays = {path for path in paths if path.lower().endswith(formats.ARRAY_EXTENSIONS)}
    first = {path for path, files in series.items() if path == files[0]}
    volumes = [path for path in paths if path in first or path in arrays]
    return volumes, [path for path in paths if path not in arrays and path not in series]


def is_hidden(path: str) -> bool:
    """Whether a path is a dot file, one of the system, or inside such a folder."""
    return any(p.startswith(".") or p.lower() in _SYSTEM_NAMES for p in path.split("/"))


def is_companion(path: str) -> bool:
    """Whether a file's extension is one of files that are never meant as images."""
    return path.lower().endswith(_COMPANIONS)


def count_extensions(paths: Iterable[str]) -> collections.Counter[str]:
    """The number of files of each extension, in lower case, the most frequent first."""
    counts = collections.Counter(os.path.splitext(path)[1].lower() for path in paths)
    return collections.Counter(dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))))


def describe_extensions(counts: dict[str, int]) -> str:
    """The counts in words: '20 .heic, 1 without extension [run `pip install ...`]'."""
    text = ", ".join(f"{n:,} {extension or 'without extension'}" for extension, n in counts.items())
    missing = [e for e in formats.HEIF_EXTENSIONS if e in counts and e not in formats.extensions()]
    if missing:
        return f"{text} [to read {', '.join(missing)}: {formats.INSTALL_HEIF}]"
    if any(extension in counts for extension in VIDEO_EXTENSIONS):
        return f"{text} [to read videos: begin the transforms with sample_frames; docs/video.md]"
    return text


def _is_video(path: str, read_start: Callable[[str], bytes]) -> bool:
    if path.lower().endswith((*VIDEO_EXTENSIONS, GIF_EXTENSION)):
        return True
    known = is_companion(path) or path.lower().endswith(formats.extensions())
    return not known and find_container(read_start(path)) is not None


def _is_image(path: str, read_start: Callable[[str], bytes]) -> bool:
    if path.lower().endswith(formats.extensions()):
        return True
    if is_companion(path):
        return False
    return formats.find_format(read_start(path)) in formats.decoded_formats()
