"""A workdir in a bucket: the same run as on a disk. `pip install gcsfs gcp-storage-emulator`."""

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
    """Variables by which a command finds `gs://bucket`, which is empty at first."""
    try:
        with buckets.serve("bucket") as env, pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            yield env
    except ImportError as e:
        pytest.skip(f"needs gcsfs and gcp-storage-emulator: {e}")


def answers(command, workdir, env, folder) -> tuple[str, str]:
    """What `evaluate` and `predict` say of a run."""
    judged = command("evaluate", f"--workdir={workdir}", "--bootstrap=0", **env)
    assert judged.returncode == 0, judged.stderr
    picture = folder / "picture.png"
    Image.fromarray((np.arange(64).reshape(8, 8) * 3).astype(np.uint8)).save(picture)
    shown = command("predict", f"--checkpoint={workdir}", str(picture), **env)
    assert shown.returncode == 0, shown.stderr
    return judged.stdout.replace(str(workdir), ""), shown.stdout


def test_a_run_is_killed_stopped_and_continued(bucket, command, cache, tmp_path):
    whole, stopped = tmp_path / "whole", epath.Path("gs://bucket/runs/stopped")
    process = run_until([], signal.SIGTERM, whole, cache)
    assert process.returncode == 0, "".join(process.lines)
    # Amid a save, which takes a bucket longer than some steps.
    process = run_until([15], signal.SIGKILL, stopped, cache, **bucket)
    assert process.returncode == -signal.SIGKILL, "".join(process.lines)
    process = run_until([30], signal.SIGTERM, stopped, cache, **bucket)
    told = "".join(process.lines)
    assert process.returncode == EXIT_AGAIN and "type the same command again" in told, told
    assert "could not be written" not in told and "Traceback" not in told, told
    process = run_until([], signal.SIGTERM, stopped, cache, **bucket)
    told = "".join(process.lines)
    assert process.returncode == 0 and "continue at step" in told, told
    assert "could not be written" not in told and "Traceback" not in told, told
    assert training_curve(stopped) == training_curve(whole)
    assert json.loads((stopped / "config.json").read_text())
    assert answers(command, stopped, bucket, tmp_path) == answers(command, whole, {}, tmp_path)


def test_a_bucket_that_is_not_there(bucket, command):
    done = command("main", "--config=configs/digits.py", "--workdir=gs://other/run", **bucket)
    assert done.returncode == 2, done.stdout
    assert "gs://other/run: " in done.stderr and "choose a --workdir" in done.stderr
    assert "Traceback" not in done.stderr
