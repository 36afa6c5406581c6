"""Shared by all tests: eight virtual CPU devices, commands as users type them, real data."""

import contextlib
import os
import pathlib
import subprocess
import sys

# Before jax starts: tests of sharding take the first 1, 2, 4 or 8 of these. What runs in the tests'
# own process is small, and compiled in less time for running slower.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1"
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest
from jax.sharding import AxisType, Mesh

from imgcls.core import cli, errors

REPO = pathlib.Path(__file__).resolve().parents[1]
SHARED_DATA = REPO.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real data sets beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real data sets in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> str:
    """A compile cache that the commands of this test session share."""
    return str(tmp_path_factory.mktemp("xla_cache"))


@pytest.fixture(scope="session")
def command(cache):
    """Runs `python -m imgcls.NAME ARGS...` in a process of its own; returns what it printed."""

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


@pytest.fixture(scope="session")
def workdir(command, tmp_path_factory) -> pathlib.Path:
    """A small run on digits with averaged parameters, trained once in a test session."""
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
    """What the process would exit with; an error that would end in a traceback fails the test."""
    try:
        cli.run(main)
    except SystemExit as e:
        return e.code
    except Exception as e:
        pytest.fail(f"ends in a traceback: {type(e).__name__}: {errors.one_line(e)}", pytrace=False)


def command_line(name: str, *args: str) -> list[str]:
    """What a user types, for subprocess."""
    return [sys.executable, "-m", f"imgcls.{name}", *args]


def command_env(cache: str, devices: int = 1) -> dict[str, str]:
    """The environment of a command: some virtual devices, and its own compile cache."""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    # `config.compile_cache` has its default under HOME; jax's own variable is not used then.
    env["HOME"] = cache
    return env


def make_mesh(data: int = 1, fsdp: int = 1, model: int = 1) -> Mesh:
    """A mesh over the first devices."""
    shape = (data, fsdp, model)
    devices = jax.devices()[: data * fsdp * model]
    axis_types = (AxisType.Auto,) * 3
    return jax.make_mesh(shape, ("data", "fsdp", "model"), axis_types=axis_types, devices=devices)
