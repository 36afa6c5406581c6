"""What befalls two real processes of one run: bad numbers, other data, a signal at a bad time."""

import pathlib
import signal
import sys

import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import EXIT_AGAIN
from imgcls.objectives import objective
from imgcls.runs.load import find_checkpoint
from tests.conftest import REPO, command_line, make_mesh
from tests.distributed.pairs import RECIPE, Pair, place_flags
from tests.end_to_end.test_resume import final_state, training_curve
from tests.train.test_nonfinite import Loop, Poisoned, lines_of, make_config


@pytest.fixture
def start(cache, tmp_path):
    """Starts pairs; ends them after the test."""
    pairs = []

    def begin(make_line, **options) -> Pair:
        pairs.append(Pair(tmp_path, **{"cache": cache, "make_line": make_line} | options))
        return pairs[-1]

    yield begin
    for made in pairs:
        made.kill()


def draw_homes(tmp_path) -> list[pathlib.Path]:
    """A folder for each process, with the same pictures."""
    homes = [tmp_path / "first", tmp_path / "second"]
    for home in homes:
        for name in ("a", "b"):
            folder = home / "pictures" / "train" / name
            folder.mkdir(parents=True)
            for number in range(64):
                Image.new("L", (8, 8), number).save(folder / f"{number:02}.png")
    return homes


def train_line(workdir, *args: str):
    """Of a pair that trains on digits."""
    line = command_line("main", *RECIPE, f"--workdir={workdir}", *args)
    return lambda address, index: [*line, *place_flags(address, index)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "bad, skip, rollback, stretches, told",
    [
        ((6, 7, 15), 2, False, [(0, 6), 2, (8, 15), 1, (16, 24)], "the update is skipped"),
        ((10, 11, 12), 2, True, [(0, 5), (13, 32)], "continue at step 5 of 24"),
    ],
)
def test_bad_numbers(bad, skip, rollback, stretches, told, start, tmp_path, monkeypatch):
    """Both leave out the same updates and go back together; the reference trains in one process."""
    args = (tmp_path / "run", skip, rollback, *bad)
    line = [sys.executable, "-m", "tests.faults.poisoned"]
    pair = start(lambda address, index: [*line, address, str(index), *map(str, args)])
    assert pair.codes() == [0, 0], pair.output(0) + pair.output(1)
    assert told in pair.output(0) and told not in pair.output(1)  # only the first process logs
    monkeypatch.setitem(objective.OBJECTIVES._parts, "poisoned", Poisoned)
    loop = Loop(make_config(*bad, **{"guard.skip": skip}), make_mesh(data=2))
    for stretch in stretches:
        if isinstance(stretch, int):
            loop.pass_over(stretch)
        else:
            loop.run(*stretch)
    loop.assert_is(tmp_path / "run")
    assert [x["step"] for x in lines_of(tmp_path / "run")] == [4, 8, 12, 16, 20, 24]


@pytest.mark.slow
def test_sigterm_during_an_evaluation(start, tmp_path):
    """It is ended, a step is made and saved, and the run goes on from there in the same bits."""
    settings = ["--config.total=60 steps", "--config.log.every=20 steps"]
    settings += ["--config.evaluators.test.every=20 steps", "--config.checkpoint.every=1000 steps"]
    stopped = train_line(tmp_path / "stopped", *settings)
    # With a compile cache of its own: the first evaluation has to be compiled, and takes seconds.
    pair = start(stopped, cache=str(tmp_path / "cache"))
    pair.wait_for("step 20/60 ")
    pair.running[1].send_signal(signal.SIGTERM)
    assert "test/" not in pair.output(0)
    assert pair.codes() == [EXIT_AGAIN] * 2, pair.output(0) + pair.output(1)
    assert "step 20/60 test/" in pair.output(0)
    step = find_checkpoint(tmp_path / "stopped").step
    assert 20 < step < 40 and f"stopped at step {step} of 60" in pair.output(0)

    pair = start(stopped)
    assert pair.codes() == [0, 0], pair.output(0)
    assert f"continue at step {step} of 60" in pair.output(0)
    pair = start(train_line(tmp_path / "whole", *settings))
    assert pair.codes() == [0, 0], pair.output(0)
    assert training_curve(tmp_path / "stopped") == training_curve(tmp_path / "whole")
    left, right = (final_state(tmp_path / name) for name in ("stopped", "whole"))
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, told",
    [
        ("one less", "number of examples is 127, not 128"),
        ("renamed", "names of examples (digest) is "),
    ],
)
def test_different_data(change, told, start, tmp_path):
    """The same command, and a folder that is not the same on both machines."""
    homes = draw_homes(tmp_path)
    picture = homes[1] / "pictures" / "train" / "b" / "63.png"
    picture.unlink() if change == "one less" else picture.rename(picture.with_name("64.png"))
    args = [f"--config={REPO}/configs/digits.py", "--config.data.source=folder:pictures"]
    args += ["--config.evaluators.test.split=train"]
    pair = start(train_line(tmp_path / "run", *args), homes=homes)
    assert pair.codes() == [2, 2], pair.output(0) + pair.output(1)
    for index in range(2):
        line = pair.output(index).splitlines()[-1]
        assert "differ from process 0 in their training data: of process 1, " in line
        assert told in line
    assert not (tmp_path / "run").exists()
