"""Kills at random moments: no checkpoint is ever unreadable, no step and no bit is lost."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPO
from tests.faults import kills


def test_two_kills(tmp_path):
    """Of a process that is alone; tests/distributed/test_processes.py has one of two killed."""
    result = kills.torture(tmp_path, (1,), kills=2, seed=0)
    assert kills.held(result, 2), json.dumps(result, indent=2)


@pytest.mark.slow
@pytest.mark.parametrize("variant", kills.VARIANTS)
def test_fifty_kills(variant, tmp_path):
    line = ("--kills=50", f"--variant={variant}", f"--out={tmp_path / 'out.json'}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.kills", *line],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert json.loads((tmp_path / "out.json").read_text())["landed"] == 50
