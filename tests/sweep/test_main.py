"""Sweeps of tiny runs on digits: mistakes, the table, workers that are killed, databases."""

import collections
import json
import os
import re
import signal
import subprocess
import sys
import time

import optuna
import pytest

import imgcls
from tests.conftest import REPO, command_env
from tests.sweep.conftest import SPACE, flags


def read_study(study: str, folder) -> optuna.Study:
    """Opens a study with Optuna alone."""
    if "://" in study:
        url = study.replace("postgresql://", "postgresql+psycopg://")
        return optuna.load_study(study_name=folder.name, storage=url)
    journal = optuna.storages.journal.JournalFileBackend(f"{study}/study.journal")
    return optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(journal))


def last_value(workdir, metric="test/accuracy") -> float:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line[metric] for line in lines if metric in line][-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.learnig_rate=log(1e-4,1)"], "did you mean 'learning_rate'"),
        (["seed=range(0)"], "has no values"),
        (["seed=range(3)", "--sampler=gird"], "did you mean 'grid'"),
        (["seed=range(3)", "--pruner=median_"], "did you mean 'median'"),
        (["seed=range(3)", "--trials=0"], "must be above 0"),
        (["seed=range(3)"], "--trials: name the number of trials"),
        (["seed=range(3)", "--study=mysql://x"], "name the folder of the trials too"),
        (["seed=range(3)", "--study=gs://x/y"], "a disk that they share"),
        (["seed=range(3)", "--workdir=/x"], "only for a database"),
        (["seed=range(3)", "--config.checkpoint.keep_best=None"], "--metric: name the metric"),
    ],
)
def test_mistakes_are_one_line(here, tmp_path, words, message):
    done = here("sweep", "--config=digits", f"--study={tmp_path}/study", *words)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not list(tmp_path.glob("study/trial*"))


def test_a_grid_of_one_run_and_its_study(tmp_path, command):
    """A trial is a workdir; Optuna, `compare` and the same command read the sweep."""
    line = ["--config=digits", f"--study={tmp_path}", "--sampler=grid", "seed=range(3,4)"]
    wrong = command("sweep", *line, "--metric=test/acuracy", *flags(4, 2))
    assert wrong.returncode == 2 and "--metric='test/acuracy'" in wrong.stderr, wrong.stderr
    assert "did you mean 'test/accuracy'" in wrong.stderr and not list(tmp_path.glob("trial*"))
    for _ in range(2):  # The second time nothing is left to do.
        done = command("sweep", *line, *flags(4, 2), f"--html={tmp_path}/page.html")
        assert done.returncode == 0, done.stderr
    assert "trial 0" not in done.stdout and "trial-00000  complete" in done.stdout
    (trial,) = read_study(str(tmp_path), tmp_path).trials
    assert trial.params == {"seed": 3} and set(trial.intermediate_values) == {2, 4}
    assert trial.value == last_value(tmp_path / "trial-00000")
    assert imgcls.compare(tmp_path).rows[0]["steps"] == 4
    assert json.loads((tmp_path / "trial-00000" / "config.json").read_text())["seed"] == 3
    page = (tmp_path / "page.html").read_text()
    assert "<b>trial-00000</b>" in page and "1 complete" in page
    other = command("sweep", *line, *flags(4, 2), "--config.batch_size=32")
    assert other.returncode == 2 and "config.batch_size was 64, not 32" in other.stderr


# ---- Slow: `pytest -m slow tests/sweep`.

TOTAL, EVERY = 800, 100


class Worker:
    """A worker in a process of its own, whose output is read while it works."""

    def __init__(self, cache, log, *words: str):
        self.log = log
        line = [sys.executable, "-m", "imgcls.sweep", "--config=digits", *words]
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                line, cwd=REPO, env=command_env(cache), stdout=out, stderr=subprocess.STDOUT
            )

    def begun(self) -> list[int]:
        """Trials that it took, in order."""
        return [int(n) for n in re.findall(r"trial (\d+) (?:begins|con)", self.log.read_text())]


def wait_for(condition, seconds: float = 240):
    """Waits until `condition()` is true and returns its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return value


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "sqlite", "postgresql"])
def test_killed_worker(kind, cache, command, tmp_path, request):
    """Two workers, one killed amid a trial: each trial ends once, with the values of plain runs."""
    folder = tmp_path / "sweep"
    place = [f"--study={folder}"]
    if kind == "sqlite":
        place = [f"--study=sqlite:///{tmp_path}/study.db", f"--workdir={folder}"]
    if kind == "postgresql":
        url = request.getfixturevalue("new_postgres")()
        place = [f"--study={url}", f"--workdir={folder}"]
    words = [*place, *SPACE, "--sampler=grid", *flags(TOTAL, EVERY)]
    first = Worker(cache, tmp_path / "first.log", *words)
    (number,) = wait_for(first.begun)
    second = Worker(cache, tmp_path / "second.log", *words)
    saved = folder / f"trial-{number:05d}" / "checkpoints" / str(2 * EVERY)
    wait_for(saved.exists)
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    assert second.process.wait(600) == 0, second.log.read_text()

    # Each trial was begun once, and that of the killed worker was continued from its checkpoint.
    begun = collections.Counter(first.begun() + second.begun())
    assert begun == {0: 1, 1: 1, 2: 1, 3: 1} | {number: 2}
    assert f"trial {number} continues" in second.log.read_text()
    output = (folder / f"trial-{number:05d}" / "output.log").read_text()
    continued = re.findall(r"continue at step (\d+)", output)
    assert len(continued) == 1 and 2 * EVERY <= int(continued[0]) < TOTAL
    trials = read_study(place[0].partition("=")[2], folder).trials
    assert [t.state.name for t in trials] == ["COMPLETE"] * 4
    assert len(list(folder.glob("trial-*"))) == 4

    # An exhaustive run of the same grid by hand.
    points = [(rate, seed) for rate in (0.0005, 0.05) for seed in range(2)]
    values = []
    for i, (rate, seed) in enumerate(points):
        keys = (f"--config.optim.learning_rate={rate}", f"--config.seed={seed}")
        plain = tmp_path / f"plain{i}"
        done = command("main", "--config=digits", f"--workdir={plain}", *flags(TOTAL, EVERY), *keys)
        assert done.returncode == 0, done.stderr
        values.append(last_value(plain))
        assert (float(trials[i].params["optim.learning_rate"]), trials[i].params["seed"]) == (
            rate,
            seed,
        )
    assert [trial.value for trial in trials] == values
    best = points[values.index(max(values))]
    shown = second.log.read_text().splitlines()[-4].split()
    assert (float(shown[3]), int(shown[4])) == best and float(shown[2]) == pytest.approx(
        max(values), abs=1e-4
    )


@pytest.mark.slow
def test_stopped_and_failed_trials(cache, tmp_path):
    """SIGTERM leaves the trial to be continued; a run that is killed or wrong ends its trial."""
    words = [f"--study={tmp_path}/sweep", *SPACE, "--sampler=grid", *flags(TOTAL, EVERY)]
    worker = Worker(cache, tmp_path / "log", *words)
    folder = tmp_path / "sweep" / "trial-00000"
    wait_for((folder / "checkpoints" / str(EVERY)).exists)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(120) == 75
    assert "run the command again" in worker.log.read_text()
    worker = Worker(cache, tmp_path / "log", *words)
    wait_for((folder / "checkpoints" / str(TOTAL)).exists)
    # The process of the next trial is killed, as when memory runs out.
    holder = tmp_path / "sweep" / "trial-00001" / ".lock"
    pid = wait_for(lambda: holder.exists() and re.search(r"pid (\d+)", holder.read_text()))
    os.kill(int(pid[1]), signal.SIGKILL)
    assert worker.process.wait(600) == 0, worker.log.read_text()
    states = [t.state.name for t in read_study(f"{tmp_path}/sweep", None).trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    text = worker.log.read_text()
    assert "trial 0 continues" in text and "trial 1 fails: its process was ended by SIGK" in text
    assert "continue at step" in (folder / "output.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_pruned_trials(sampler, tmp_path, command):
    """Successive halving stops trials early; all end, and the numbers are exact."""
    words = ["optim.learning_rate=log(1e-6,0.1)", f"--sampler={sampler}", "--pruner=halving"]
    words += ["--trials=7", *flags(320, 20), f"--html={tmp_path}/page.html", "--seed=1"]
    done = command("sweep", "--config=digits", f"--study={tmp_path}/sweep", *words)
    assert done.returncode == 0, done.stderr
    trials = read_study(f"{tmp_path}/sweep", None).trials
    states = collections.Counter(trial.state.name for trial in trials)
    assert sum(states.values()) == 7 and states["PRUNED"] >= 1 and states["COMPLETE"] >= 1
    page = (tmp_path / "page.html").read_text()
    assert f"{states['PRUNED']} pruned" in page
    for trial in trials:
        if trial.state.name == "COMPLETE":
            assert trial.value == last_value(tmp_path / "sweep" / f"trial-{trial.number:05d}")
