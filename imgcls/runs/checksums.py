"""Checksums of the files of a checkpoint, which detect damage after it was written.

Orbax commits checkpoints atomically, but does not detect later damage: a truncated or missing file
fails the restore, and a flipped bit of an array is restored silently.
"""

import functools
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
from etils import epath

from imgcls.core.errors import ConfigError
from imgcls.core.storage import is_local, reason, replace_text
from imgcls.distributed.agreement import from_first

# File next to a checkpoint's items: `{file: [bytes, CRC-32]}`.
CHECKSUMS = "checksums.json"
# Bytes read at a time for a checksum.
CHUNK = 1 << 22
# Files that every checkpoint has, for checkpoints without checksums.
REQUIRED_FILES = ("meta/metadata", "state/_METADATA", "state/manifest.ocdbt")


def checkpoint_steps(root: epath.Path) -> list[int]:
    """Steps of the complete checkpoints in a directory, in ascending order."""
    if not root.is_dir():
        return []
    import orbax.checkpoint as ocp

    return sorted(ocp.utils.checkpoint_steps(root))


def newest_undamaged(root: epath.Path) -> tuple[int | None, dict[int, str]]:
    """Finds the newest checkpoint that is not damaged.

    All processes call it at the same point; the first one reads the files.

    Returns:
      Step of that checkpoint (None: there are no checkpoints), and `{step: damage}` of the later
      ones, which is empty except on the first process.

    Raises:
      ConfigError: all checkpoints are damaged.
    """
    step, damaged = None, {}
    if jax.process_index() == 0:
        for step in reversed(checkpoint_steps(root)):
            if (damage := find_damage(root / str(step))) is None:
                break
            damaged[step] = damage
        else:
            step = None
    step = from_first(-2 if step is None and damaged else -1 if step is None else step)
    if step == -2:
        raise ConfigError(
            f"{root}: all checkpoints are damaged ({'; '.join(damaged.values())}); move this "
            "directory away to start over"
        )
    return (None if step == -1 else step), damaged


def set_aside(checkpoint: epath.Path) -> epath.Path:
    """Renames a damaged checkpoint to `STEP.damaged`, which is not listed; returns the new path."""
    names = (checkpoint.with_name(f"{checkpoint.name}.damaged{i or ''}") for i in range(1000))
    return checkpoint.rename(next(name for name in names if not name.exists()))


def write_checksums(checkpoint: epath.Path) -> int:
    """Writes the checksums of a checkpoint on a disk; object stores have checksums of their own.

    Returns:
      Size of the checkpoint's files, in bytes.
    """
    files = sorted(_files(checkpoint))
    checksums = {name: [size, _crc(checkpoint / name)] for name, size, _ in files}
    replace_text(checkpoint / CHECKSUMS, json.dumps(checksums, indent=0) + "\n")
    return sum(size for _, size, _ in files)


def find_damage(checkpoint: epath.Path) -> str | None:
    """Describes the first damaged file of a checkpoint; None if no file is damaged.

    Of an older checkpoint, without checksums, only the files that describe the others are checked.
    The result is cached as long as the files do not change.
    """
    if not is_local(checkpoint):
        return None
    if not (checkpoint / CHECKSUMS).exists():
        empty = (checkpoint / n for n in REQUIRED_FILES if not _size(checkpoint / n))
        return next((f"{path} is missing or empty" for path in empty), None)
    return _find_difference(os.fspath(checkpoint), tuple(sorted(_files(checkpoint))))


@functools.lru_cache(maxsize=16)
def _find_difference(folder: str, files: tuple[tuple[str, int, int], ...]) -> str | None:
    path = epath.Path(folder)
    try:
        expected = json.loads((path / CHECKSUMS).read_text())
        expected = {name: (size, crc) for name, (size, crc) in expected.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return f"{path / CHECKSUMS} can't be read"
    sizes = {name: size for name, size, _ in files}
    for name, (size, _) in expected.items():
        if name not in sizes:
            return f"{path / name} is missing"
        if sizes[name] != size:
            return f"{path / name} has {sizes[name]} bytes instead of {size}"
    try:
        with ThreadPoolExecutor(4) as pool:
            crcs = pool.map(lambda name: _crc(path / name), expected)
            changed = [n for n, crc in zip(expected, crcs, strict=True) if crc != expected[n][1]]
    except OSError as e:
        return f"{e.filename} can't be read ({reason(e)})"
    return f"{path / changed[0]} has changed since it was written" if changed else None


def _files(checkpoint: epath.Path) -> Iterator[tuple[str, int, int]]:
    """Names, sizes and modification times (ns) of the files of a checkpoint's items.

    Files next to the items are left out, as they are written later: checksums, a calibration.
    """
    for item in checkpoint.iterdir():
        for root, _, names in os.walk(item):
            for path in (os.path.join(root, name) for name in names):
                stat = os.stat(path)
                yield os.path.relpath(path, checkpoint), stat.st_size, stat.st_mtime_ns


def _crc(path: epath.Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def _size(path: epath.Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
