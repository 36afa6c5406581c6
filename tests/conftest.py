"""Shared by all tests: eight virtual CPU devices, commands in processes, real data."""

import contextlib
import dataclasses
import fcntl
import gc
import importlib
import io
import os
import pathlib
import shutil
import subprocess
import sys

from tests import COMPILE_FLAGS

# Before jax starts: tests of sharding use the first 1, 2, 4 or 8 devices.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    f" --xla_force_host_platform_device_count=8 {COMPILE_FLAGS}"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"  # No test needs a network.

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import AxisType, Mesh

from imgcls.core import cli, errors
from imgcls.core.defaults import default_config
from imgcls.train.compile_cache import use_compile_cache
from tests import forking

REPO = pathlib.Path(__file__).resolve().parents[1]
SHARED_DATA = REPO.parent / "shared" / "data"


def pytest_collection_finish() -> None:
    """Collects garbage seldom: tracing makes many objects, and few of them are in cycles."""
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real datasets next to the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real datasets in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> pathlib.Path:
    """A folder of the test session, the same one in all of its processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(shared_folder) -> str:
    """HOME of all tests and of the commands they start, with the compile cache of both in it.

    A program is compiled once in a test session, whichever of its processes needs it first.
    """
    home = shared_folder / "home"
    home.mkdir(exist_ok=True)
    os.environ["HOME"] = str(home)
    use_compile_cache(default_config())
    # JAX looks for the folder once, and a module may have run a program when it was imported.
    compilation_cache.reset_cache()
    return str(home)


@pytest.fixture(scope="session")
def command(cache):
    """Runs `python -m imgcls.NAME ARGS...` in its own process; returns the completed process.

    The process is forked, see `tests/forking.py`. Python itself is started for what users type by
    `test_command`, and in `end_to_end` by `test_mistakes`, `test_output` and `test_startup`.
    """

    def run(name: str, *args: str, devices: int = 1, timeout: int = 300, **env: str):
        line, settings = command_line(name, *args), command_env(cache, devices) | env
        return forking.run(line, settings, REPO, timeout)

    return run


@dataclasses.dataclass
class Done:
    """What a command printed, and its exit code; named as in `subprocess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def here():
    """As `command`, but in the test process, which saves the seconds of a start.

    `devices` is how many of the eight devices a run uses.
    """

    def run(name: str, *args: str, devices: int = 1) -> Done:
        folder = (REPO / "imgcls" / name).is_dir()
        module = importlib.import_module(f"imgcls.{name}.__main__" if folder else f"imgcls.{name}")
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(jax, "device_count", lambda *_: devices)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = exit_code(lambda: module.main(list(args)))
        return Done(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(size)`: context manager for a folder on an in-memory disk of `size` bytes."""
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
            pytest.skip(f"can't mount a disk: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)

    return mount


@pytest.fixture(scope="session")
def workdir(command, shared_folder, tmp_path_factory) -> pathlib.Path:
    """A small run on digits with averaged parameters, trained once per test session.

    Each process of the session has its own copy.
    """
    trained = shared_folder / "trained_digits"
    with open(shared_folder / "trained_digits.lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not trained.exists():
            train_digits(command, trained)
    return shutil.copytree(trained, tmp_path_factory.mktemp("runs") / "trained_digits")


def train_digits(command, folder: pathlib.Path) -> None:
    done = command(
        "main",
        "--config=configs/digits.py",
        f"--workdir={folder}",
        "--config.total=6 epochs",
        "--config.optim.learning_rate=0.3",
        "--config.schedule.warmup=5 steps",
        "--config.ema=0.8",
        "--config.model.width=8",
        "--config.model.stage_sizes=(1, 1)",
    )
    assert done.returncode == 0, done.stderr


def exit_code(main) -> int:
    """Returns the exit code of a command; fails the test on an error with a traceback."""
    try:
        cli.run(main)
    except SystemExit as e:
        assert isinstance(e.code, int)
        return e.code
    except Exception as e:
        pytest.fail(f"ends in a traceback: {type(e).__name__}: {errors.one_line(e)}", pytrace=False)


def command_line(name: str, *args: str) -> list[str]:
    """Returns the arguments of a command for `subprocess`."""
    return [sys.executable, "-m", f"imgcls.{name}", *args]


def command_env(cache: str, devices: int = 1) -> dict[str, str]:
    """Returns the environment of a command, with virtual devices and a compile cache."""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices} {COMPILE_FLAGS}"
    # The default of `config.compile_cache` is under HOME.
    env["HOME"] = cache
    return env


def make_mesh(data: int = 1, fsdp: int = 1, model: int = 1) -> Mesh:
    """Makes a mesh of the first devices."""
    shape = (data, fsdp, model)
    devices = jax.devices()[: data * fsdp * model]
    axis_types = (AxisType.Auto,) * 3
    return jax.make_mesh(shape, ("data", "fsdp", "model"), axis_types=axis_types, devices=devices)
