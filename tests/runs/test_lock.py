"""Storage and the lock of a workdir."""

import importlib.util
import os
import resource
import socket
import subprocess
import sys

import pytest

from imgcls.core import storage
from imgcls.core.errors import ConfigError
from imgcls.core.storage import (
    GrowingFile,
    as_path,
    free_bytes,
    is_local,
    reason,
    replace_bytes,
    replace_text,
)
from imgcls.runs.lock import Lock
from tests.conftest import REPO
from tests.disks import fill


def test_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/ant")
    monkeypatch.chdir(tmp_path)
    assert str(as_path("~/run")) == "/home/ant/run" and as_path("run") == tmp_path / "run"
    monkeypatch.setitem(storage.STORES, "gs", "json")  # what is installed
    assert str(as_path("gs://bucket/run") / "a") == "gs://bucket/run/a"
    assert is_local("/a/b") and not is_local(as_path("gs://bucket/run"))


def test_unsupported_paths(monkeypatch):
    with pytest.raises(
        ConfigError, match=r"^ftp://host/run: ftp:// is not supported; write a directory"
    ):
        as_path("ftp://host/run")
    monkeypatch.setitem(storage.STORES, "gs", "no_such_package")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^gs://b/run: .* run `pip install no_such_package`$"):
        as_path("gs://b/run")


def test_replace_text(tmp_path):
    path = tmp_path / "a.json"
    for text in ("one", "two"):
        replace_text(path, text)
        assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_replace_on_a_full_disk(small_disk):
    with small_disk(100_000) as disk:
        replace_bytes(disk / "a", b"old")
        fill(disk, but=8192)
        with pytest.raises(OSError, match="No space left"):
            replace_bytes(disk / "a", bytes(20_000))
        assert (disk / "a").read_bytes() == b"old"
        assert sorted(p.name for p in disk.iterdir()) == ["a", "fill"]
        assert free_bytes(disk / "not" / "there") == 8192


def test_growing_file(tmp_path):
    """A part that could not be written completely is removed, and written with the next one."""
    path = tmp_path / "log"
    path.write_bytes(b"0\n")
    file = GrowingFile(path)
    file.waiting += b"1\n"
    file.flush()
    assert path.read_bytes() == b"0\n1\n"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file.waiting += b"2" * 100 + b"\n"
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
        with pytest.raises(OSError, match="File too large"):
            file.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"0\n1\n"
    file.waiting += b"3\n"
    file.flush()
    assert path.read_bytes() == b"0\n1\n" + b"2" * 100 + b"\n3\n" and not file.waiting


@pytest.mark.parametrize(
    "error, expected",
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("x: Failed to write 3 bytes: No space left on device [28]\n\n In y"), None),
        (KeyError("a b"), "KeyError: 'a b'"),
    ],
)
def test_reason(error, expected):
    assert reason(error) == (expected or "No space left on device")


# ---- One run at a time.

HOLD = """
import sys, time
from imgcls.core.storage import as_path
from imgcls.runs.lock import Lock
lock = Lock(as_path(sys.argv[1]))
print("locked", flush=True)
time.sleep(600)
"""


def test_second_run_is_refused_until_the_first_ends(tmp_path):
    folder = as_path(tmp_path / "deep" / "run")
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError) as e:
            Lock(folder)
        assert f"{folder}: another run is using it (host {socket.gethostname()}" in str(e.value)
        assert f"pid {first.pid})" in str(e.value)
    finally:
        first.kill()
        first.wait()
    lock = Lock(folder)
    assert f"pid {os.getpid()}" in (folder / ".lock").read_text()
    lock.check()
    lock.release()
    Lock(folder).release()


def test_workdir_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match="choose a writable --workdir"):
            Lock(as_path(path))


def test_read_only_disk(small_disk):
    with small_disk(100_000, "ro") as disk:
        with pytest.raises(ConfigError, match="run: Read-only file system; choose"):
            Lock(as_path(disk / "run"))


def test_disk_that_is_unmounted(small_disk):
    with small_disk(100_000) as disk:
        lock = Lock(as_path(disk))
        lock.check()
    with pytest.raises(OSError, match="its disk is gone"):
        lock.check()
    lock.release()


def test_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    first, second = Lock(as_path(tmp_path)), Lock(as_path(tmp_path))
    for lock in (first, second):  # The second run is not detected.
        lock.check()
        lock.release()
    assert all(path.name == ".lock" for path in tmp_path.iterdir())
