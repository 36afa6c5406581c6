"""Checkpoints that are damaged after they were written."""

import shutil

import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.runs import checksums
from imgcls.runs.load import find_checkpoint
from imgcls.runs.save import Checkpointer
from tests.conftest import make_mesh
from tests.runs.test_load import INFO, assert_equal, make_config, make_state


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A workdir with checkpoints 1 and 2, their state, and its shapes."""
    folder, config = tmp_path_factory.mktemp("saved"), make_config()
    state, abstract = make_state(config, make_mesh())
    checkpointer = Checkpointer(str(folder), config, INFO)
    for step in (1, 2):
        checkpointer.save(step, state)
    checkpointer.close()
    return folder, state, abstract


@pytest.fixture
def run(saved, tmp_path):
    """A copy of that workdir."""
    return shutil.copytree(saved[0], tmp_path / "run")


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def cut(checkpoint):
    path = largest(checkpoint)
    path.write_bytes(path.read_bytes()[:-100])
    return path, "bytes instead of"


def flip(checkpoint):
    path = largest(checkpoint)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path, "has changed since it was written"


def lose(checkpoint):
    path = checkpoint / "state" / "manifest.ocdbt"
    path.unlink()
    return path, "is missing"


def lose_all(checkpoint):
    shutil.rmtree(checkpoint / "state")
    return checkpoint / "state", "is missing"


def empty(checkpoint):
    path = checkpoint / "meta" / "metadata"
    path.write_bytes(b"")
    return path, "has 0 bytes instead of"


def break_checksums(checkpoint):
    path = checkpoint / checksums.CHECKSUMS
    path.write_text("{")
    return path, "can't be read"


@pytest.mark.parametrize("damage", [cut, flip, lose, lose_all, empty, break_checksums])
def test_previous_checkpoint_is_used(damage, run, saved, capsys):
    path, what = damage(run / "checkpoints" / "2")
    # Readers leave it where it is.
    assert find_checkpoint(run).path == run / "checkpoints" / "1"
    output = capsys.readouterr().err
    assert str(path) in output and what in output and "that of step 1 is used" in output
    assert output.count("\n") == 1
    assert find_checkpoint(run).read_meta()[1] == INFO
    assert capsys.readouterr().err == ""
    if damage is not lose_all:
        with pytest.raises(ConfigError, match=what):
            find_checkpoint(run / "checkpoints" / "2")
    # A run that continues renames it.
    checkpointer = Checkpointer(str(run), make_config(), INFO)
    assert checkpointer.latest_step == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert str(path) in line and what in line and line.endswith("2.damaged")
    assert_equal(checkpointer.restore(saved[2], 1), saved[1])
    checkpointer.save(2, saved[1])
    checkpointer.close()
    names = sorted(p.name for p in (run / "checkpoints").iterdir())
    assert names == ["1", "2", "2.damaged"]
    assert find_checkpoint(run).path == run / "checkpoints" / "2"


def test_same_step_is_damaged_twice(run):
    for expected in ("2.damaged", "2.damaged1"):
        moved = checksums.set_aside(run / "checkpoints" / "2")
        assert moved.name == expected
        shutil.copytree(moved, run / "checkpoints" / "2")


def test_all_are_damaged(run):
    paths = [flip(run / "checkpoints" / step)[0] for step in ("1", "2")]
    for read in (
        lambda: find_checkpoint(run),
        lambda: Checkpointer(str(run), make_config(), INFO).latest_step,
    ):
        with pytest.raises(ConfigError) as e:
            read()
        assert f"{run / 'checkpoints'}: all checkpoints are damaged" in str(e.value)
        assert all(str(path) in str(e.value) for path in paths)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["1", "2"]


def test_without_checksums(run):
    """Checkpoints of older versions: only missing and empty files are detected."""
    for step in ("1", "2"):
        (run / "checkpoints" / step / checksums.CHECKSUMS).unlink()
    assert find_checkpoint(run).step == 2
    empty(run / "checkpoints" / "2")
    assert find_checkpoint(run).step == 1


def test_files_next_to_the_items_may_change(run):
    checkpoint = run / "checkpoints" / "2"
    for text in ("one", "two"):
        (checkpoint / "calibration.json").write_text(text)
        assert checksums.find_damage(checkpoint) is None


def test_copied_checkpoint_is_undamaged(run, tmp_path):
    copy = shutil.copytree(run / "checkpoints" / "2", tmp_path / "best")
    assert find_checkpoint(copy).path == copy
    np.testing.assert_equal(checksums.checkpoint_steps(run / "checkpoints"), [1, 2])
