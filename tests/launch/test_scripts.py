"""All launchers: linted, executable, and the same command behind each."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import REPO

LAUNCH = REPO / "launch"
SCRIPTS = [*LAUNCH.rglob("*.sh"), LAUNCH / "slurm.sbatch"]
SOURCED = {LAUNCH / "signals.sh"}


def test_shellcheck():
    # Beside the Python that runs the tests.
    program = pathlib.Path(sys.executable).parent / "shellcheck"
    line = [program, "--external-sources", *SCRIPTS, REPO / ".ci" / "run"]
    done = subprocess.run(line, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_conventions(script):
    text = script.read_text()
    assert os.access(script, os.X_OK) == (script not in SOURCED)
    if script not in SOURCED:
        assert text.startswith("#!/usr/bin/env bash\n# ") and "\nset -euo pipefail\n" in text
    assert max(map(len, text.splitlines())) <= 100


def test_one_loop_and_one_command():
    for name in ("local.sh", "slurm.sbatch", "tpu_vm.sh", "docker/Dockerfile.cpu"):
        text = (LAUNCH / name).read_text()
        assert "until_done.sh" in text and "imgcls.main" in text, name
