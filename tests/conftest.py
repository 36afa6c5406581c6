"""Shared by all tests: eight virtual CPU devices, commands in processes, real data."""

import contextlib
import os
import pathlib
import subprocess
import sys

# Before jax starts: tests of sharding use the first 1, 2, 4 or 8 devices. Programs in the test
# process are small, so they are compiled faster and run slower.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"  # No test needs a network.

import jax
import pytest
from jax.sharding import AxisType, Mesh

from imgcls.core import cli, errors

REPO = pathlib.Path(__file__).resolve().parents[1]
SHARED_DATA = REPO.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real datasets next to the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real datasets in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> str:
    """Compile cache shared by the commands of a test session."""
    return str(tmp_path_factory.mktemp("xla_cache"))


@pytest.fixture(scope="session")
def command(cache):
    """Runs `python -m imgcls.NAME ARGS...` in its own process; returns the completed process."""

    def run(name: str, *args: str, devices: int = 1, timeout: int = 300, **env: str):
        return subprocess.run(
            command_line(name, *args),
            env=command_env(cache, devices) | env,
            cwd=REPO,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

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
def workdir(command, tmp_path_factory) -> pathlib.Path:
    """A small run on digits with averaged parameters, trained once per test session."""
    folder = tmp_path_factory.mktemp("trained_digits")
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
    return folder


def exit_code(main) -> int:
    """Returns the exit code of a command; fails the test on an error with a traceback."""
    try:
        cli.run(main)
    except SystemExit as e:
        return e.code
    except Exception as e:
        pytest.fail(f"ends in a traceback: {type(e).__name__}: {errors.one_line(e)}", pytrace=False)


def command_line(name: str, *args: str) -> list[str]:
    """Returns the arguments of a command for `subprocess`."""
    return [sys.executable, "-m", f"imgcls.{name}", *args]


def command_env(cache: str, devices: int = 1) -> dict[str, str]:
    """Returns the environment of a command, with virtual devices and a compile cache."""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    # The default of `config.compile_cache` is under HOME.
    env["HOME"] = cache
    return env


def make_mesh(data: int = 1, fsdp: int = 1, model: int = 1) -> Mesh:
    """Makes a mesh of the first devices."""
    shape = (data, fsdp, model)
    devices = jax.devices()[: data * fsdp * model]
    axis_types = (AxisType.Auto,) * 3
    return jax.make_mesh(shape, ("data", "fsdp", "model"), axis_types=axis_types, devices=devices)
