"""Starts commands in processes that needn't import JAX: forks of one that has imported it.

The first `start` runs this module as a server, which imports what every command needs but starts
neither a thread nor a device. It forks itself for each command; the child runs it as Python would,
with its own environment, working directory and streams, and up to the end of the interpreter.

What a fork hides is how a process starts: its command line and environment as /proc shows them, a
hash seed of its own, and which modules a command imports. Tests of those, and tests that go
through a shell, start Python itself.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO

from jax._src import xla_bridge

import imgcls
from imgcls.core.registry import import_modules

REPO = pathlib.Path(__file__).resolve().parents[1]
# What most commands import, at once or when it is needed.
PACKAGES = (
    "imgcls.data.sources",
    "imgcls.data.transforms",
    "imgcls.evaluate.evaluators",
    "imgcls.losses",
    "imgcls.models",
    "imgcls.objectives",
    "imgcls.runs",
    "imgcls.train.optimizers",
)
LIBRARIES = ("scipy.sparse", "tensorboardX")
COMMANDS = ("imgcls.main", "imgcls.evaluate.__main__", "imgcls.predict.__main__")
# Variables that nothing reads before a command runs.
READ_LATE = ("HOME", "XLA_FLAGS", "PYTHONPATH", "PYTEST_CURRENT_TEST")


def run(line: Sequence, env: dict[str, str], cwd, timeout: float) -> subprocess.CompletedProcess:
    """Runs a command, see `start`; returns its exit code and what it printed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = start(line, env, cwd, out, err)
        try:
            process.wait(timeout)
        finally:
            process.kill()
        printed = [(file.seek(0), file.read())[1] for file in (out, err)]
    return subprocess.CompletedProcess(line, process.wait(), *printed)


def start(
    line: Sequence, env: dict[str, str], cwd, stdout: IO | int, stderr: IO | int | None = None
) -> "subprocess.Popen[str] | Process":
    """Starts a command.

    Args:
      line: `[sys.executable, "-m", MODULE, *ARGUMENTS]` or `[sys.executable, SCRIPT, *ARGUMENTS]`.
      env: environment. If it differs where imports may notice, Python itself is started.
      cwd: working directory.
      stdout: file, or `subprocess.PIPE`.
      stderr: file; None: the same as `stdout`.
    """
    line = [os.fspath(word) for word in line]
    if sys.platform == "linux":
        server, its_env = _server()
        if _early(env) == _early(its_env):
            return Process(server, line, env, cwd, stdout, stderr)
    stderr = subprocess.STDOUT if stderr is None else stderr
    return subprocess.Popen(line, env=env, cwd=cwd, stdout=stdout, stderr=stderr, text=True)


def _early(env: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in env.items() if key not in READ_LATE}


class Process:
    """A forked command; its names are those of `subprocess.Popen`."""

    def __init__(self, server: socket.socket, line: list[str], env, cwd, stdout, stderr):
        self.args, self.stdout, self.returncode = line, None, None
        if stdout == subprocess.PIPE:
            reading, writing = os.pipe()
            self.stdout, stdout = open(reading), open(writing, "w")
        status, server_status = os.pipe()
        self._status = open(status)
        with tempfile.TemporaryFile("w+") as request:
            json.dump({"line": line[1:], "env": env, "cwd": os.fspath(cwd)}, request)
            request.seek(0)
            files = (request, server_status, stdout, stderr or stdout)
            descriptors = [f if isinstance(f, int) else f.fileno() for f in files]
            socket.send_fds(server, [b"."], descriptors)
        os.close(server_status)
        if self.stdout:
            stdout.close()
        self.pid = int(self._status.readline())

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _server() -> tuple[socket.socket, dict[str, str]]:
    """Starts the server of this process, which ends with this process, in this environment."""
    ours, theirs = socket.socketpair()
    line, env = [sys.executable, "-m", "tests.forking", str(theirs.fileno())], dict(os.environ)
    with theirs:
        process = subprocess.Popen(
            line, pass_fds=[theirs.fileno()], env=env, cwd=REPO, stdin=subprocess.DEVNULL
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours, env


# ---- The server.


def serve(requests: socket.socket) -> tuple[dict, list[int]] | None:
    """Forks for each request; returns it in the child, and None in the server at the end."""
    running: dict[int, tuple[int, IO[str]]] = {}  # by a descriptor that is ready at the end
    while True:
        ready = select.select([requests.fileno(), *running], [], [])[0]
        for ended in running.keys() & ready:
            os.close(ended)
            pid, status = running.pop(ended)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with contextlib.suppress(BrokenPipeError), status:  # Nobody may wait for it.
                print(code, file=status)
        if requests.fileno() not in ready:
            continue
        descriptors = socket.recv_fds(requests, 1, 4)[1]
        if not descriptors:
            return None
        with open(descriptors[0]) as file:
            request = json.load(file)
        status, streams = open(descriptors[1], "w"), descriptors[2:]
        if not (pid := os.fork()):
            for each in (requests, status, *(other for _, other in running.values())):
                each.close()
            for each in running:
                os.close(each)
            return request, streams
        with contextlib.suppress(BrokenPipeError):
            print(pid, file=status, flush=True)
        running[os.pidfd_open(pid)] = pid, status
        for each in streams:
            os.close(each)


def become(request: dict, streams: list[int]) -> None:
    """Runs the command of a request in this process."""
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    imgcls.BEGAN, line = time.monotonic(), request["line"]
    sys.argv = line[1:] if line[0] == "-m" else line
    own = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if line[0] == "-m":
        sys.path[:1] = [os.getcwd(), *own]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[:1] = [os.path.dirname(line[0]), *own]
        runpy.run_path(line[0], run_name="__main__")


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # It is for the tests and their commands.
    for name in PACKAGES:
        import_modules(name)
    for name in LIBRARIES + COMMANDS:
        importlib.import_module(name)
    for name in COMMANDS:
        del sys.modules[name]  # A command runs its own module as `__main__`.
    assert threading.active_count() == 1 and not xla_bridge.backends_are_initialized()
    gc.freeze()
    if request := serve(socket.socket(fileno=int(sys.argv[1]))):
        become(*request)


if __name__ == "__main__":
    main()
