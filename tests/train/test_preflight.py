"""What is compared before training: the processes, and the config with the run's."""

import functools
import json
import operator

import jax.numpy as jnp
import pytest

from imgcls.core.config import leaves, override
from imgcls.core.defaults import KEPT_KEYS, default_config
from imgcls.core.errors import ConfigError
from imgcls.core.state import TrainState
from imgcls.data.info import DataInfo
from imgcls.runs.save import Checkpointer
from imgcls.train import preflight


class Names:
    """A source with these names of examples."""

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]


@pytest.fixture
def compared(monkeypatch):
    """Returns the values that a check compares with other processes, as JSON."""
    calls = []
    monkeypatch.setattr(preflight, "check_same", lambda what, mine: calls.append(mine))

    def compared(check, *args) -> dict:
        check(*args)
        return json.loads(json.dumps(calls.pop(), default=str))

    return compared


def differing(one: dict, other: dict) -> set[str]:
    assert one.keys() == other.keys()
    return {key for key in one if one[key] != other[key]}


NAMES = [f"{i}.jpg" for i in range(2500)]


@pytest.mark.parametrize(
    ("names", "classes", "counts", "expected"),
    [
        (list(NAMES), ("cat", "dog"), (1200, 1300), set()),
        (NAMES[:-1], ("cat", "dog"), (1200, 1300), {"number of examples"}),
        (NAMES[::-1], ("cat", "dog"), (1200, 1300), set()),
        (NAMES, ("dog", "cat"), (1200, 1300), {"names of classes (digest)"}),
        (NAMES, ("cat", "dog", "ox"), (1200, 1300), {"number of classes"}),
        (NAMES, ("cat", "dog"), (1300, 1200), {"examples per class"}),
    ],
)
def test_different_data(names, classes, counts, expected, compared):
    """Fewer images, another order, other classes, and the same images with other labels."""

    def check(names, classes, counts):
        return compared(
            preflight.check_same_data, Names(names), DataInfo(classes, False, (8, 8, 3), 0, counts)
        )

    changed = differing(check(NAMES, ("cat", "dog"), (1200, 1300)), check(names, classes, counts))
    # Other names and other classes also change the digests.
    assert expected <= changed and bool(changed) == (names != NAMES or bool(expected))


def test_different_commands(compared, tmp_path):
    """Keys of a single machine are not compared; the newest checkpoint is."""
    config = default_config()
    mine = compared(preflight.check_same_command, config, str(tmp_path), False)
    local = override(default_config(), ["--config.data.threads=3", "--config.data.dir=/here"])
    assert compared(preflight.check_same_command, local, str(tmp_path), False) == mine
    other = override(default_config(), ["--config.evaluators.test.split=test", "--config.seed=1"])
    theirs = compared(preflight.check_same_command, other, str(tmp_path), True)
    assert {k for k in {**mine, **theirs} if mine.get(k) != theirs.get(k)} == {
        *("config.evaluators.test.split", "config.evaluators", "config.seed", "--accept_changes")
    }
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    theirs = compared(preflight.check_same_command, config, str(tmp_path), False)
    assert differing(mine, theirs) == {"newest checkpoint"}


def save(workdir, config) -> None:
    """Writes a checkpoint of a run with this config."""
    checkpointer = Checkpointer(str(workdir), config, DataInfo(("cat", "dog"), False, (8, 8, 3)))
    checkpointer.save(1, TrainState(jnp.ones((), jnp.int32), {"w": jnp.ones(2)}, {}, ()))
    checkpointer.close()


def test_a_run_keeps_the_keys_with_which_it_began(tmp_path):
    """The checkpoint of an older version lacks them; those after it have them."""
    new, old = leaves(default_config()), default_config()
    earlier, later = ({key: ages[i] for key, ages in KEPT_KEYS.items()} for i in (0, 1))
    assert all(new[key] is None and earlier[key] != later[key] for key in KEPT_KEYS)
    for key in KEPT_KEYS:
        *sections, name = key.split(".")
        del functools.reduce(operator.getitem, sections, old)[name]
    save(tmp_path / "old", old)
    config = default_config()
    preflight.check_start(config, str(tmp_path / "old"), accept_changes=False)
    assert leaves(config) == new | earlier
    save(tmp_path / "old, continued", config)
    for workdir, expected in (("old, continued", earlier), ("new", later)):
        config = default_config()
        preflight.check_start(config, str(tmp_path / workdir), accept_changes=False)
        assert leaves(config) == new | expected


def test_another_value_of_a_kept_key_is_refused(tmp_path):
    save(tmp_path, override(default_config(), ["--config.optim.always_adapt=True"]))
    config = override(default_config(), ["--config.optim.always_adapt=False"])
    with pytest.raises(ConfigError, match="optim.always_adapt was True, is False"):
        preflight.check_same_run(config, str(tmp_path), accept_changes=False)
