"""The batch script, run with stand-ins for srun and scontrol."""

import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from imgcls.runs.load import find_checkpoint
from tests.conftest import REPO, command_env
from tests.end_to_end.test_devices import RECIPE, losses
from tests.end_to_end.test_resume import final_state
from tests.launch.conftest import LAUNCH
from tests.launch.slurm import SCONTROL, SRUN, job_env

# What is compiled in a second or two.
SMALL = ("--config.model.width=8", "--config.model.stage_sizes=(1,)", "--config.batch_size=64")


@pytest.fixture
def slurm(programs):
    programs.add("srun", SRUN)
    programs.add("scontrol", SCONTROL)
    return programs


def start_job(slurm, *args: str, python=sys.executable, tasks=2, **env: str) -> subprocess.Popen:
    """As sbatch: a copy of the script, in the folder where it was submitted."""
    script = shutil.copy(LAUNCH / "slurm.sbatch", slurm.folder.parent / "slurm_script")
    own = {"SLURM_SUBMIT_DIR": str(REPO), "PYTHON": str(python), "IMGCLS_PAUSE": "0"}
    return subprocess.Popen(
        [script, *args],
        cwd=slurm.folder.parent,
        env=os.environ | slurm.env | job_env(tasks) | own | env | {"PATH": slurm.env["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def requeued(slurm) -> list[str]:
    path = slurm.folder / "requeued"
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def scripted(slurm):
    """Runs a job whose `python` is a few lines of bash."""

    def run(text: str) -> subprocess.Popen:
        path = slurm.folder / "fake_python"
        path.write_text(f"#!/usr/bin/env bash\n{text}")
        path.chmod(0o755)
        return start_job(slurm, "--config=c.py", "--config.total=20 steps", python=path)

    return run


def test_tasks_get_the_arguments_and_what_jax_reads(scripted, slurm):
    job = scripted('echo "$SLURM_PROCID|$SLURM_LOCALID|$SLURM_NTASKS|$SLURM_STEP_NODELIST|$4|$#"')
    printed, _ = job.communicate(timeout=60)
    assert sorted(printed.split("\n")[:-1]) == [
        f"{i}|{i}|2|localhost|--config.total=20 steps|4" for i in range(2)
    ]
    assert job.returncode == 0 and requeued(slurm) == []


@pytest.mark.parametrize("code", [1, 2])
def test_a_mistake_ends_the_job(code, scripted, slurm):
    job = scripted(f"exit {code}")
    job.communicate(timeout=60)
    assert job.returncode == code and requeued(slurm) == []


def test_a_crash_starts_all_tasks_again(scripted, slurm):
    noted = slurm.folder / "noted"
    job = scripted(
        f'echo "$SLURM_PROCID" >> "{noted}"\n'
        f'[[ $(wc -l < "{noted}") -gt 2 ]] || exit $((SLURM_PROCID ? 75 : 139))'
    )
    job.communicate(timeout=60)
    assert job.returncode == 0 and requeued(slurm) == []
    assert sorted(noted.read_text().split()) == ["0", "0", "1", "1"]


@pytest.mark.parametrize("code, again", [(75, True), (143, True), (0, False), (2, False)])
def test_sigterm_requeues_what_is_not_done(code, again, scripted, slurm):
    trap = f"trap 'exit {code}' TERM\necho started\nwhile true; do sleep 0.05; done"
    job = scripted(trap)
    assert [job.stdout.readline() for _ in range(2)] == ["started\n"] * 2
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=60)
    assert job.returncode == code
    assert len(requeued(slurm)) == again


def test_options_for_sbatch():
    text = (LAUNCH / "slurm.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.M))
    assert options["requeue"] == "" and options["signal"] == "B:TERM@120"
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    # sbatch reads no option behind the first command.
    assert text.index("set -euo") > max(m.start() for m in re.finditer("#SBATCH", text))


def test_dry_run_and_mistakes(launch, tmp_path):
    done = launch("slurm.sbatch", "--dry_run", "--config=c.py", "--config.total=2 steps")
    assert done.returncode == 0
    assert done.stdout.startswith("srun ") and "--config.total=2\\ steps" in done.stdout
    for args, told in [((), "no arguments"), (("--config=c.py",), "not in a job")]:
        done = launch("slurm.sbatch", *args)
        assert done.returncode == 2 and told in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = launch("slurm.sbatch", "--config=c.py", SLURM_SUBMIT_DIR=str(tmp_path))
    assert done.returncode == 2 and "is not a checkout" in done.stderr


def train(slurm, cache, workdir, *args: str, stop_at: int | None = None) -> tuple[int, str]:
    """Trains with two tasks; after this step the job is told to stop."""
    env = {k: v for k, v in command_env(cache).items() if k in ("HOME", "XLA_FLAGS")}
    job = start_job(slurm, *RECIPE, f"--workdir={workdir}", *args, **env)
    printed = ""
    for line in job.stdout:
        printed += line
        if stop_at and f"step {stop_at}/20" in line:
            job.send_signal(signal.SIGTERM)
            stop_at = None
    return job.wait(), printed


def test_two_tasks_find_each_other_and_train(slurm, cache, tmp_path):
    code, printed = train(slurm, cache, tmp_path, "--config.total=2 steps", *SMALL)
    assert code == 0 and printed.count("2 cpu devices") == 1, printed
    assert requeued(slurm) == [] and len(losses(tmp_path)) == 2


@pytest.mark.slow
def test_a_preempted_job_ends_as_one_that_was_not(slurm, cache, tmp_path):
    code, printed = train(slurm, cache, tmp_path / "whole")
    assert code == 0 and "2 cpu devices" in printed, printed
    code, printed = train(slurm, cache, tmp_path / "stopped", stop_at=8)
    assert code == 75, printed
    assert len(requeued(slurm)) == 1
    assert 8 <= find_checkpoint(tmp_path / "stopped").step < 20
    code, printed = train(slurm, cache, tmp_path / "stopped")
    assert code == 0 and "continue at step" in printed, printed
    whole, stopped = (final_state(tmp_path / name) for name in ("whole", "stopped"))
    assert whole.keys() == stopped.keys() and whole["['step']"] == 20
    for key in whole:
        np.testing.assert_array_equal(whole[key], stopped[key], err_msg=key)
    np.testing.assert_array_equal(losses(tmp_path / "whole"), losses(tmp_path / "stopped"))
