"""Evaluators built from the sections of a config."""

import pytest

from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.evaluate.create import create_evaluators
from imgcls.evaluate.evaluators.classification import Classification
from imgcls.objectives.create import create_objective
from tests.conftest import make_mesh
from tests.evaluate.cases import INFO, make_config


def create(config):
    objective = create_objective(config, INFO)
    return create_evaluators(config, objective, make_mesh(), INFO, Durations(config, 640))


def test_create_evaluators():
    config = make_config(
        val={"split": "test[:50%]", "every": "2 epochs", "batch_size": 30},
        test={"type": "classification", "every": "0 steps"},
    )
    config.batch_size = 64
    created = create(config)
    assert {name: every for name, (every, _) in created.items()} == {"val": 20, "test": 1}
    assert all(isinstance(evaluator, Classification) for _, evaluator in created.values())


@pytest.mark.parametrize(
    ("evaluators", "message"),
    [
        ({"test": {"type": "clasification"}}, "did you mean 'classification'"),
        ({"test": {"splt": "test"}}, "evaluators.test.splt='splt': .*did you mean 'split'"),
        ({"test": {"every": "x"}}, "evaluators.test.every='x': not a duration"),
        ({"test": {"split": "val"}}, "digits has the splits train, test"),
    ],
)
def test_mistakes(evaluators, message):
    config = make_config(**evaluators)
    with pytest.raises(ConfigError, match=message):
        create(config)
