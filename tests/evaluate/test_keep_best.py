"""Each metric states which of two values is better, and `checkpoint.keep_best` goes by it."""

import json

import pytest

from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.evaluate import metrics as metrics_lib
from imgcls.evaluate.create import create_evaluators
from imgcls.evaluate.evaluator import EVALUATORS
from imgcls.evaluate.keep_best import find_best_metric
from imgcls.evaluate.metrics import LIGHT, measure
from imgcls.main import main
from imgcls.objectives.create import create_objective
from imgcls.runs.best import BestMetric
from tests.conftest import make_mesh
from tests.evaluate.cases import INFO, Linear, draw_outcomes, draw_variables, make_config

LOWER = {"loss", "nll", "brier", "ece", "hamming_loss"}
# Metrics that say nothing about quality.
COUNTS = {"examples", "skipped", "map_classes", "roc_auc_classes"}


def find(best, prefixes=("", "ema_"), **sections):
    config = make_config(**sections)
    config.checkpoint.keep_best = best
    objective = create_objective(config, INFO)
    created = create_evaluators(config, objective, make_mesh(), INFO, Durations(config, 640))
    return find_best_metric(config, {name: e for name, (_, e) in created.items()}, prefixes)


@pytest.mark.parametrize("task", LIGHT)
def test_every_metric_of_outcomes_has_a_direction(task):
    names = {*measure(draw_outcomes(task), bootstrap=0).metrics, *LIGHT[task]} - COUNTS
    directions = metrics_lib.DIRECTIONS
    assert {name: directions[name] for name in names} == {
        name: "lower" if name in LOWER else "higher" for name in names
    }


@pytest.mark.parametrize(
    ("kind", "options", "without"),
    [
        ("knn", {}, {"feature_std"}),
        ("linear_probe", {"grid": (0.1, 1)}, {"C", "converged"}),
        ("few_shot", {"shots": (1, 2)}, {"accuracy_1shot_std", "accuracy_2shot_std"}),
        ("embedding_map", {"examples": 60}, {"pca"}),
        ("reconstructions", {}, {"grid"}),
    ],
)
def test_every_metric_of_the_other_evaluators(kind, options, without):
    small = {"train_split": "train[:200]", "split": "test[:60]"}
    section = {"type": kind, **options}
    section |= small if "train_split" in EVALUATORS.options(kind) else {}
    config = make_config(probe=section)
    created = create_evaluators(config, Linear(), make_mesh(), INFO, Durations(config, 640))
    (_, evaluator) = created["probe"]
    measured = set(evaluator.run({"": draw_variables()}))
    assert measured - without == set(evaluator.directions)
    assert set(evaluator.directions.values()) <= {"higher"}


@pytest.mark.parametrize("name", sorted(LIGHT["softmax"]))
def test_direction_of_a_classification_metric(name):
    if name in COUNTS:
        with pytest.raises(ConfigError, match=f"'test/{name}': not a metric of which"):
            find(f"test/{name}", test={})
        return
    better = "lower" if name in LOWER else "higher"
    ours, averaged = BestMetric(f"test/{name}", better), BestMetric(f"test/ema_{name}", better)
    assert find(f"test/{name}", ("",), test={}) == ours
    # The averaged parameters are those that are loaded, and therefore those that are ranked.
    for best in (f"test/{name}", f"test/ema_{name}"):
        assert find(best, ("", "ema_"), test={}) == averaged


@pytest.mark.parametrize(
    ("best", "message"),
    [
        ("val/accuracy", "keep_best='val/accuracy': there is no evaluator of that.*knn, test"),
        ("test/acuracy", "did you mean 'test/accuracy'"),
        ("test/nll", "not a metric of which evaluators.test states whether.*valid: test/loss"),
        ("knn/feature_std", "valid: knn/accuracy, knn/top5_accuracy"),
        ("test", "'test': not a metric"),
    ],
)
def test_unknown_metrics_are_refused(best, message):
    with pytest.raises(ConfigError, match=message):
        find(best, ("",), test={}, knn={"type": "knn", "train_split": "train[:200]"})


def test_without_evaluators():
    assert find(None) is None
    with pytest.raises(ConfigError, match="with one of none"):
        find("val/accuracy")


class Silent:
    protocol = "a plugin from before metrics had directions"

    def run(self, variables):
        return {"norm": 1.0}


class Wrong(Silent):
    directions = {"norm": "up"}


def test_plugins():
    config = make_config()
    config.checkpoint.keep_best = "size/norm"
    with pytest.raises(ConfigError, match="its class names none: see `directions`"):
        find_best_metric(config, {"size": Silent()}, [""])
    with pytest.raises(ConfigError, match=r"directions\['norm'\]='up'; write 'higher' or 'lower'"):
        find_best_metric(config, {"size": Wrong()}, [""])


PLUGIN = """
from imgcls.evaluate.evaluator import register_evaluator


@register_evaluator("given")
class Given:
    \"\"\"Values that the test knows.\"\"\"

    directions = {"error": "lower", "score": "higher"}

    def __init__(self, config, objective, mesh, data_info):
        self.protocol, self.values = "given", [0.5, 0.125, 0.75, 0.25]

    def run(self, variables):
        value = self.values.pop(0)
        return {"error": value, "score": value}
"""
SMALL = (
    "--config=configs/digits.py",
    "--config.total=4 steps",
    "--config.model.width=4",
    "--config.model.stage_sizes=(1,)",
    "--config.checkpoint.keep_last=1",
    "--config.compile_cache=",
)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    file = tmp_path_factory.mktemp("plugins") / "given.py"
    file.write_text(PLUGIN)
    return file


@pytest.mark.parametrize(("metric", "kept"), [("error", {2, 4}), ("score", {3, 4})])
def test_the_command_keeps_the_best_by_a_plugin(metric, kept, plugin, tmp_path):
    command = (
        f"--config.plugins=({str(plugin)!r},)",
        "--config.evaluators.given={'type': 'given', 'every': '1 steps'}",
        f"--config.checkpoint.keep_best=given/{metric}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert main([*SMALL, *command]) == 0
    assert {int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir()} == kept


@pytest.mark.parametrize("metric", ["ece", "brier", "loss", "accuracy"])
def test_the_command_keeps_the_best_of_each_direction(metric, tmp_path):
    command = (
        "--config.evaluators.test.every=1 steps",
        f"--config.checkpoint.keep_best=test/{metric}",
        f"--workdir={tmp_path}",
    )
    assert main([*SMALL, "--config.total=6 steps", *command]) == 0
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    values = {x["step"]: x[f"test/{metric}"] for x in lines if f"test/{metric}" in x}
    assert len(values) == 6
    kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir()}
    best = (max if metric == "accuracy" else min)(values.values())
    assert best in {values[step] for step in kept}
