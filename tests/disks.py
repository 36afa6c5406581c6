"""Disks that are soon full, for tests that may mount them."""

import contextlib
import pathlib
import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(size)`: a context that gives a folder on a disk of so many bytes, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()

    @contextlib.contextmanager
    def mount(size: int, options: str = "rw"):
        line = ["mount", "-t", "tmpfs", "-o", f"size={size},{options}", "tmpfs", str(folder)]
        try:
            done = subprocess.run(line, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("needs the mount command")
        if done.returncode:
            pytest.skip(f"may not mount a disk: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)

    return mount


def fill(disk: pathlib.Path, but: int = 0) -> None:
    """Takes all room but so many bytes, in a file `fill`."""
    with open(disk / "fill", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    if but:
        with open(disk / "fill", "r+b") as file:
            file.truncate((disk / "fill").stat().st_size - but)
