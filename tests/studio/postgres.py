"""A PostgreSQL server of the tests: its own, in a temporary directory."""

import contextlib
import itertools
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

_numbers = itertools.count()


def find(program: str) -> str | None:
    """A program of PostgreSQL: on the PATH, or where Debian's packages put it."""
    places = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(map(str, places)))


@contextlib.contextmanager
def running() -> Iterator[Callable[[], str]]:
    """Starts a server; yields a function that makes an empty database and returns its URL.

    The server refuses to run as root, so it runs as `postgres` or `nobody` then.
    """
    initdb, postgres = find("initdb"), find("postgres")
    if not (initdb and postgres):
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    root = pathlib.Path(tempfile.mkdtemp(prefix="imgcls_pg_", dir="/tmp"))
    user = {}
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        os.chown(root, entry.pw_uid, entry.pw_gid)
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    quiet = {"stdout": subprocess.DEVNULL, "cwd": root, **user}
    data = root / "data"
    line = [initdb, "-D", str(data), "-U", "studio", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run([*line, "--locale=C"], check=True, **quiet)
    line = [postgres, "-D", str(data), "-k", str(root), "-c", "listen_addresses="]
    with open(root / "log", "wb") as log:
        server = subprocess.Popen(line, stderr=log, **quiet)
    try:
        _wait(server, root)

        def make() -> str:
            name = f"studio_{next(_numbers)}"
            with _connect(root) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            return f"postgresql://studio@/{name}?host={root}"

        yield make
    finally:
        server.send_signal(signal.SIGINT)  # Disconnects everybody.
        server.wait(30)
        shutil.rmtree(root)


def _connect(root: pathlib.Path) -> psycopg.Connection:
    return psycopg.connect(f"host={root} user=studio dbname=postgres", autocommit=True)


def _wait(server: subprocess.Popen, root: pathlib.Path) -> None:
    for _ in range(600):
        with contextlib.suppress(psycopg.OperationalError), _connect(root):
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"PostgreSQL does not start: {(root / 'log').read_text()}")
