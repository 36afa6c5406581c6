"""Whether a checkpoint is as it was written: a sum of every file, kept beside them.

Orbax commits a checkpoint whole, but does not see what becomes of it: it finds a file that is cut
off or missing as it restores, and restores a flipped bit of an array without a word.
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

# Beside a checkpoint's items: `{file: [bytes, CRC-32]}`.
CHECKSUMS = "checksums.json"
# Read at a time when a file is summed.
CHUNK = 1 << 22
# What every checkpoint has, where it has no sums.
NEEDED = ("meta/metadata", "state/_METADATA", "state/manifest.ocdbt")


def checkpoint_steps(root: epath.Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, in rising order."""
    if not root.is_dir():
        return []
    import orbax.checkpoint as ocp

    return sorted(ocp.utils.checkpoint_steps(root))


def newest_whole(root: epath.Path) -> tuple[int | None, dict[int, str]]:
    """The newest step that is not damaged (None: there is none), and what is wrong with later ones.

    With many processes the first one looks; all call it at the same point, and only the first
    knows what is wrong.

    Raises:
      ConfigError: there are checkpoints, and all are damaged.
    """
    step, damaged = None, {}
    if jax.process_index() == 0:
        for step in reversed(checkpoint_steps(root)):
            if (found := find_damage(root / str(step))) is None:
                break
            damaged[step] = found
        else:
            step = None
    step = from_first(-2 if step is None and damaged else -1 if step is None else step)
    if step == -2:
        raise ConfigError(
            f"{root}: no checkpoint there is whole ({'; '.join(damaged.values())}); move that "
            "folder away to begin anew"
        )
    return (None if step == -1 else step), damaged


def set_aside(checkpoint: epath.Path) -> epath.Path:
    """Renames a damaged checkpoint to `STEP.damaged`, which is no checkpoint; returns that."""
    names = (checkpoint.with_name(f"{checkpoint.name}.damaged{i or ''}") for i in range(1000))
    return checkpoint.rename(next(name for name in names if not name.exists()))


def write_sums(checkpoint: epath.Path) -> int:
    """Sums the files of a checkpoint on a disk; object stores keep sums of their own.

    Returns:
      Their size, in bytes.
    """
    files = sorted(_files(checkpoint))
    sums = {name: [size, _crc(checkpoint / name)] for name, size, _ in files}
    replace_text(checkpoint / CHECKSUMS, json.dumps(sums, indent=0) + "\n")
    return sum(size for _, size, _ in files)


def find_damage(checkpoint: epath.Path) -> str | None:
    """The first file that is not as it was written, and what is wrong with it; None if all are.

    Without sums (older checkpoints) only the files that say what the others are have to be there.
    What was found is kept for files that don't change.
    """
    if not is_local(checkpoint):
        return None
    if not (checkpoint / CHECKSUMS).exists():
        empty = (checkpoint / n for n in NEEDED if not _size(checkpoint / n))
        return next((f"{path} is missing or empty" for path in empty), None)
    return _compare(os.fspath(checkpoint), tuple(sorted(_files(checkpoint))))


@functools.lru_cache(maxsize=16)
def _compare(folder: str, files: tuple[tuple[str, int, int], ...]) -> str | None:
    path = epath.Path(folder)
    try:
        wanted = json.loads((path / CHECKSUMS).read_text())
        wanted = {name: (size, crc) for name, (size, crc) in wanted.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return f"{path / CHECKSUMS} can't be read"
    sizes = {name: size for name, size, _ in files}
    for name, (size, _) in wanted.items():
        if name not in sizes:
            return f"{path / name} is missing"
        if sizes[name] != size:
            return f"{path / name} has {sizes[name]} bytes in place of {size}"
    try:
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda name: _crc(path / name), wanted)
            changed = [n for n, crc in zip(wanted, found, strict=True) if crc != wanted[n][1]]
    except OSError as e:
        return f"{e.filename} can't be read ({reason(e)})"
    return f"{path / changed[0]} has changed since it was written" if changed else None


def _files(checkpoint: epath.Path) -> Iterator[tuple[str, int, int]]:
    """Names, sizes and times (ns) of the items' files.

    Files beside the items come later and change: a calibration, the sums.
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
