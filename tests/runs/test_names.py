"""`WORKDIR:best`, `WORKDIR:newest` and `WORKDIR:STEP` name the checkpoints of a run."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import imgcls
from imgcls.core.config import load
from imgcls.core.errors import ConfigError
from imgcls.evaluate.__main__ import main as evaluate
from imgcls.export.__main__ import main as export
from imgcls.main import main
from imgcls.predict.__main__ import main as predict
from imgcls.report.__main__ import main as report
from imgcls.runs.best import BestMetric
from imgcls.runs.checksums import CHECKSUMS
from imgcls.runs.load import find_checkpoint
from imgcls.runs.save import Checkpointer
from tests.conftest import make_mesh
from tests.runs.test_load import INFO, make_config, make_state

ACCURACY = BestMetric("test/accuracy", "higher")


def save(folder, values, best=ACCURACY, use="newest"):
    config = make_config()
    config.checkpoint.keep_last, config.checkpoint.use = 9, use
    config.checkpoint.keep_best = best and best.name
    state, _ = make_state(config, make_mesh())
    checkpointer = Checkpointer(str(folder), config, INFO, best)
    for step, value in values.items():
        checkpointer.save(step, state, None if value is None else {best.name: value})
    checkpointer.close()
    return folder


def edit_meta(folder, step, change) -> None:
    """Changes the description of a checkpoint, as if an older version had written it."""
    checkpoint = folder / "checkpoints" / str(step)
    meta = json.loads((file := checkpoint / "meta" / "metadata").read_text())
    change(meta)
    file.write_text(json.dumps(meta))
    (checkpoint / CHECKSUMS).unlink()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("saved") / "a:run", {10: 0.5, 20: 0.9, 30: 0.7, 40: None})


@pytest.mark.parametrize(
    ("name", "step"), [("", 40), (":newest", 40), (":best", 20), (":30", 30), (":0010", 10)]
)
def test_names(saved, name, step, capsys):
    found = find_checkpoint(f"{saved}{name}")
    assert (found.step, found.workdir, found.name) == (step, saved, f"a:run-{step}")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (":25", "a:run:25: no checkpoint of step 25; there are 10, 20, 30, 40"),
        (":bst", "no checkpoint there; give a run's --workdir, WORKDIR:best, WORKDIR:STEP, or"),
        ("s:best", "no checkpoint there"),
        ("s:10", "no checkpoint of step 10; there are none"),
    ],
)
def test_names_of_no_checkpoint(saved, name, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        find_checkpoint(f"{saved}{name}")


def test_a_directory_with_such_a_name_is_itself(tmp_path):
    save(tmp_path / "run", {10: 0.5, 20: 0.1})
    copy = shutil.copytree(tmp_path / "run", tmp_path / "run:best")
    assert find_checkpoint(copy).path == copy / "checkpoints" / "20"


def test_the_best_of_the_undamaged(saved, tmp_path, capsys):
    run = shutil.copytree(saved, tmp_path / "run")
    (run / "checkpoints" / "20" / "meta" / "metadata").write_text("{}")
    assert find_checkpoint(f"{run}:best").step == 30
    assert "the checkpoint of step 20 is damaged" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="this checkpoint is damaged"):
        find_checkpoint(f"{run}:20")


def test_runs_without_a_best(tmp_path):
    save(tmp_path / "a", {10: None}, best=None)
    with pytest.raises(ConfigError, match="a:best: the run has no checkpoint.keep_best; .*a:10"):
        find_checkpoint(f"{tmp_path / 'a'}:best")
    save(tmp_path / "b", {10: None})
    with pytest.raises(ConfigError, match="b:best: no checkpoint has the metric test/accuracy"):
        find_checkpoint(f"{tmp_path / 'b'}:best")


@pytest.mark.parametrize(
    ("name", "step"), [("test/loss", 20), ("val/ema_accuracy", 10), ("test/brier", None)]
)
def test_older_runs(name, step, tmp_path):
    """They kept the lowest loss, and the highest of everything else."""
    run = save(tmp_path / "run", {10: 0.9, 20: 0.2, 30: None}, BestMetric(name, "lower"))

    def make_older(meta):
        del meta["best"], meta["config"]["checkpoint"]["use"]

    edit_meta(run, 30, make_older)
    assert find_checkpoint(run).step == 30
    if step is not None:
        assert find_checkpoint(f"{run}:best").step == step
        return
    with pytest.raises(ConfigError, match="whether higher or lower values of test/brier .*run:30"):
        find_checkpoint(f"{run}:best")


def test_a_workdir_that_stands_for_its_best(tmp_path, capsys):
    run = save(tmp_path / "run", {10: 0.5, 20: 0.9, 30: 0.7}, use="best")
    assert find_checkpoint(run).step == 20
    expected = f"{run}: the best checkpoint is used, of step 20; the newest is {run}:newest\n"
    assert capsys.readouterr() == ("", expected)
    assert find_checkpoint(f"{run}:newest").step == 30 and capsys.readouterr() == ("", "")
    other = save(tmp_path / "other", {10: None, 20: None}, use="best")
    assert find_checkpoint(other).step == 20
    assert "no checkpoint has the metric test/accuracy" in (err := capsys.readouterr().err)
    assert err.endswith("; the newest checkpoint is used, of step 20\n")


def test_wrong_use(tmp_path):
    with pytest.raises(ConfigError, match="checkpoint.use='bst'.*did you mean 'best'"):
        save(tmp_path / "run", {}, use="bst")
    assert not (tmp_path / "run").exists()


# ---- The commands.

SMALL = (
    "--config=configs/digits.py",
    "--config.model.width=4",
    "--config.model.stage_sizes=(1,)",
    "--config.optim.name=adamw",
    "--config.optim.learning_rate=0.02",
    "--config.compile_cache=",
)
# A learning rate that destroys the model at the end.
RUN = (
    *SMALL,
    "--config.total=40 steps",
    "--config.evaluators.test.every=10 steps",
    "--config.schedule.name=step",
    "--config.schedule.warmup=0 steps",
    "--config.schedule.boundaries=('30 steps',)",
    "--config.schedule.factor=1e3",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose best checkpoint is not its newest."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main([*RUN, f"--workdir={folder}"]) == 0
    return folder


def logged(workdir) -> dict[int, float]:
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {x["step"]: x["test/accuracy"] for x in lines if "test/accuracy" in x}


def test_every_command_takes_the_best(trained, tmp_path, capsys):
    accuracies = logged(trained)
    best = max(accuracies, key=lambda step: (accuracies[step], step))  # the last of equals
    assert best < 40 and accuracies[best] > accuracies[40]
    picture = tmp_path / "x.png"
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(picture)
    for name, step in (("best", best), ("40", 40)):
        path = f"{trained}:{name}"
        run = imgcls.load(path)
        assert run.name == f"run-{step}"
        assert run.evaluate("test", bootstrap=0).metrics["accuracy"] == accuracies[step]
        capsys.readouterr()
        assert evaluate([f"--workdir={path}", "--bootstrap=0"]) == 0
        assert json.loads(capsys.readouterr().out)["test/accuracy"] == accuracies[step]
        assert predict([f"--checkpoint={path}", str(picture)]) == 0
        printed = json.loads(capsys.readouterr().out)["predictions"][0]["score"]
        assert printed == pytest.approx(run.predict(str(picture))[0].probabilities.max(), abs=1e-5)
        to = tmp_path / name
        assert export([f"--checkpoint={path}", f"--to={to}", "--format=stablehlo"]) == 0
        assert report([f"--workdir={path}", f"--out={to / 'r.html'}", "--examples=1"]) == 0
        assert f"step {step}" in " ".join((to / "r.html").read_text().split())
        capsys.readouterr()
        new = (f"--config.init_from={path}", "--config.total=1 steps", f"--workdir={to / 'run'}")
        assert main([*SMALL, *new]) == 0
        assert f"init_from {path}: {trained}/checkpoints/{step}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "recipe", ["own:data=folder:x", "finetune:init_from=x.npz,data=folder:x", "digits"]
)
def test_recipes_for_own_data_use_the_best(recipe):
    assert load(recipe).checkpoint.use == ("newest" if recipe == "digits" else "best")


def test_a_run_on_own_data(tmp_path, capsys):
    """It stands for its best checkpoint, and every command says so."""
    for number in range(36):
        split = ("train", "val", "test")[number // 2 % 3]
        file = tmp_path / "data" / split / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number % 2 * 200, number, 0)).save(file)
    run = tmp_path / "run"
    command = (
        f"--config=own:data=folder:{tmp_path / 'data'},size=8,width=4",
        "--config.total=10 steps",
        "--config.batch_size=8",
        "--config.model.stage_sizes=(1,)",
        "--config.compile_cache=",
        f"--workdir={run}",
    )
    assert main(list(command)) == 0
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {x["step"]: x["val/loss"] for x in lines if "val/loss" in x}
    best = min(reversed(losses), key=lambda step: losses[step])
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith(
            f"checkpoints: {run}:best is step {best} (val/loss {losses[best]:.4f}), "
            f"{run}:newest is step 10, {run} alone is the best"
        )
    )
    said = f"{run}: the best checkpoint is used, of step {best}; the newest is {run}:newest\n"
    picture = str(next((tmp_path / "data" / "test" / "a").iterdir()))
    assert predict([f"--checkpoint={run}", picture]) == 0
    assert said in capsys.readouterr().err
    assert evaluate([f"--workdir={run}", "--bootstrap=0"]) == 0
    printed = capsys.readouterr()
    assert said in printed.err
    assert json.loads(printed.out)["val/loss"] == pytest.approx(losses[best], rel=1e-6)
    assert imgcls.load(run).name == f"run-{best}" and capsys.readouterr().err == said


def test_the_last_line_of_a_run_names_them(trained, capsys):
    """Also when the same command finds the run complete."""
    accuracies = logged(trained)
    best = max(accuracies, key=lambda step: (accuracies[step], step))  # the last of equals
    assert main([*RUN, f"--workdir={trained}"]) == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith(
            f"checkpoints: {trained}:best is step {best} (test/accuracy {accuracies[best]:.4f}), "
            f"{trained}:newest is step 40"
        )
    )
