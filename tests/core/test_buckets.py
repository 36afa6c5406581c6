"""A workdir in a bucket gives the same run as on a disk.

Needs `pip install gcsfs gcp-storage-emulator`.
"""

import json
import signal

import numpy as np
import pytest
from etils import epath
from PIL import Image

from imgcls.core.errors import EXIT_AGAIN
from tests import buckets
from tests.end_to_end.test_resume import run_until, training_curve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket():
    """Environment variables with which a command finds `gs://bucket`, initially empty."""
    try:
        with buckets.serve("bucket") as env, pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            yield env
    except ImportError as e:
        pytest.skip(f"needs gcsfs and gcp-storage-emulator: {e}")


def answers(command, workdir, env, folder) -> tuple[str, str]:
    """Outputs of `evaluate` and `predict` for a run."""
    evaluated = command("evaluate", f"--workdir={workdir}", "--bootstrap=0", **env)
    assert evaluated.returncode == 0, evaluated.stderr
    picture = folder / "picture.png"
    Image.fromarray((np.arange(64).reshape(8, 8) * 3).astype(np.uint8)).save(picture)
    predicted = command("predict", f"--checkpoint={workdir}", str(picture), **env)
    assert predicted.returncode == 0, predicted.stderr
    return evaluated.stdout.replace(str(workdir), ""), predicted.stdout


def test_run_that_is_killed_stopped_and_resumed(bucket, command, cache, tmp_path):
    whole, stopped = tmp_path / "whole", epath.Path("gs://bucket/runs/stopped")
    process = run_until([], signal.SIGTERM, whole, cache)
    assert process.returncode == 0, "".join(process.lines)
    # During a save, which takes longer than some steps in a bucket.
    process = run_until([15], signal.SIGKILL, stopped, cache, **bucket)
    assert process.returncode == -signal.SIGKILL, "".join(process.lines)
    process = run_until([30], signal.SIGTERM, stopped, cache, **bucket)
    output = "".join(process.lines)
    assert process.returncode == EXIT_AGAIN and "type the same command again" in output, output
    assert "could not be written" not in output and "Traceback" not in output, output
    process = run_until([], signal.SIGTERM, stopped, cache, **bucket)
    output = "".join(process.lines)
    assert process.returncode == 0 and "continue at step" in output, output
    assert "could not be written" not in output and "Traceback" not in output, output
    assert training_curve(stopped) == training_curve(whole)
    assert json.loads((stopped / "config.json").read_text())
    assert answers(command, stopped, bucket, tmp_path) == answers(command, whole, {}, tmp_path)


def test_missing_bucket(bucket, command):
    done = command("main", "--config=configs/digits.py", "--workdir=gs://other/run", **bucket)
    assert done.returncode == 2, done.stdout
    assert "gs://other/run: " in done.stderr and "choose a writable --workdir" in done.stderr
    assert "Traceback" not in done.stderr
