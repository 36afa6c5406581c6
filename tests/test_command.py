"""The `imgcls` command: its help, its commands, and recipes by name from any folder."""

import subprocess
import sys

import pytest

from imgcls.__main__ import COMMANDS
from tests.conftest import REPO, command_env

LINE = [sys.executable, "-m", "imgcls"]


@pytest.fixture
def imgcls(cache, tmp_path):
    """Runs `imgcls ARGS...` in an empty folder."""
    env = command_env(cache) | {"PYTHONPATH": str(REPO)}

    def run(*args: str):
        return subprocess.run(
            [*LINE, *args], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )

    return run


def test_help_lists_the_commands(imgcls):
    done = imgcls("--help")
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert imgcls().returncode == 2


def test_help_needs_no_jax():
    code = (
        "import sys\n"
        "from imgcls.__main__ import dispatch\n"
        "dispatch(['--help'])\n"
        "print(sorted({'jax', 'flax', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_help_of_a_command_has_its_name(imgcls):
    done = imgcls("evaluate", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: imgcls evaluate")


def test_unknown_command(imgcls):
    done = imgcls("trian", "--config=digits")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown command 'trian'; did you mean 'train'?")


def test_train_by_name_and_predict(imgcls, tmp_path):
    import numpy as np
    from PIL import Image

    small = ("--config.model.width=8", "--config.model.stage_sizes=(1,)")
    done = imgcls("train", "--config=digits", "--workdir=run", "--config.total=2 steps", *small)
    assert done.returncode == 0, done.stderr
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.png")
    done = imgcls("predict", "--checkpoint=run", "x.png")
    assert done.returncode == 0 and '"x.png"' in done.stdout, done.stderr


def test_misspelled_recipe(imgcls):
    done = imgcls("train", "--config=resnet5", "--workdir=run")
    assert done.returncode == 2
    assert "no such file or recipe; did you mean 'resnet50'?" in done.stderr
