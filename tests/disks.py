"""Helper for the fixture `small_disk`."""

import contextlib
import pathlib


def fill(disk: pathlib.Path, but: int = 0) -> None:
    """Fills the disk, except for `but` bytes, with a file `fill`."""
    with open(disk / "fill", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    if but:
        with open(disk / "fill", "r+b") as file:
            file.truncate((disk / "fill").stat().st_size - but)
