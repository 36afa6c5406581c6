"""The values that processes compare before they train together."""

import json

import pytest

from imgcls.core.config import override
from imgcls.core.defaults import default_config
from imgcls.data.info import DataInfo
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
