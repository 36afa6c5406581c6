"""The recipe against the clock: it learns, and continues after a kill, bit for bit."""

import json
import signal

import numpy as np
import pytest

from imgcls.core.config import from_json
from imgcls.data.create import create_reader, describe, open_split
from imgcls.objectives.create import create_objective
from imgcls.train.initialize import arrays_from_data
from tests.end_to_end.test_resume import final_state, run_until, training_curve

pytestmark = pytest.mark.slow

SMALL = ("--config.model.dtype=float32", "--config.log.every=5 steps")
# On digits as the recipe is on CIFAR-10, with lookahead besides.
DIGITS = (
    *SMALL,
    "--config.model.widths=(32, 64, 64)",
    "--config.data.source=digits",
    "--config.data.channels=1",
    "--config.data.mean=(0.3,)",
    "--config.data.std=(0.37,)",
    "--config.data.train_transform=resize((16, 16))",
    "--config.data.eval_transform=resize((16, 16))",
    "--config.total=60 steps",
    "--config.batch_size=64",
    "--config.optim.lookahead.every=4",
    "--config.checkpoint.every=7 steps",
)


def recipe(variant: int, *arguments: str, data: str = "none") -> tuple[str, ...]:
    return (f"--config=configs/cifar10_fast.py:data={data},variant={variant}", *arguments)


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """The workdir of the run from start to end."""
    workdir = tmp_path_factory.mktemp("whole")
    process = run_until([], signal.SIGKILL, workdir, cache, recipe(94, *DIGITS))
    assert process.returncode == 0, "".join(process.lines)
    return workdir


def test_learns(whole):
    last = training_curve(whole)[-1]
    assert last["test/accuracy"] > 0.9
    params = {key: value for key, value in final_state(whole).items() if "['params']" in key}
    bias = params["['params']['whiten']['bias']"]
    assert bias.any()
    for key, value in params.items():
        if "scale" in key:
            np.testing.assert_array_equal(value, 1)


def test_whitening_kernel_is_that_of_the_data(whole):
    config = from_json((whole / "config.json").read_text())
    source = open_split(config, "train")
    objective = create_objective(
        config, describe(config, create_reader(config, source, train=True))
    )
    expected = arrays_from_data(config, objective, source)["params"]["whiten"]["kernel"]
    found = final_state(whole)["['params']['whiten']['kernel']"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_killed_and_continued(whole, cache, tmp_path):
    arguments = recipe(94, *DIGITS)
    killed = run_until([30], signal.SIGKILL, tmp_path, cache, arguments)
    assert killed.returncode == -signal.SIGKILL, "".join(killed.lines)
    again = run_until([], signal.SIGKILL, tmp_path, cache, arguments)
    told = "".join(again.lines)
    assert again.returncode == 0 and "continue at step" in told, told
    ours, theirs = final_state(tmp_path), final_state(whole)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)
    assert training_curve(tmp_path) == training_curve(whole)


def test_same_run_on_other_devices(whole, command, tmp_path):
    done = command("main", *recipe(94, *DIGITS), f"--workdir={tmp_path}", devices=4)
    assert done.returncode == 0, done.stderr
    # Later the roundings have grown.
    ours, theirs = (training_curve(workdir)[0] for workdir in (tmp_path, whole))
    assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-3)
    assert training_curve(tmp_path)[-1]["test/accuracy"] > 0.9


@pytest.mark.parametrize(("variant", "rate"), [(94, 0.24), (96, 1.1739)])
def test_cifar10(variant, rate, command, shared_data, tmp_path):
    done = command(
        "main",
        *recipe(variant, *SMALL, data=str(shared_data / "cifar10_jpg.zip")),
        "--config.model.widths=(32, 64, 64)",
        "--config.data.train_split=train[:10%]",
        "--config.total=80 steps",
        "--config.batch_size=128",
        "--config.optim.learning_rate=" + str(rate / 4),
        "--config.evaluators.test.split=test[:1000]",
        f"--workdir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[-1] < losses[0] - 0.2
    # 10 % by chance.
    assert lines[-1]["test/accuracy"] > 0.3
