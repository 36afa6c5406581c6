"""Properties of every evaluator, and their config sections."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.evaluate.create import create_evaluators
from imgcls.main import main
from imgcls.runs.load import find_checkpoint
from tests.conftest import exit_code, make_mesh
from tests.evaluate.cases import INFO, Linear, draw_variables, make_config

SMALL = {"train_split": "train[:200]", "split": "test[:60]"}
SECTIONS = {
    "knn": SMALL,
    "linear_probe": SMALL | {"grid": (0.1, 1)},
    "few_shot": SMALL | {"shots": (2,)},
    "embedding_map": {"examples": 60},
    "reconstructions": {},
}


def create(log=print, **sections):
    config = make_config(**sections)
    return create_evaluators(config, Linear(), make_mesh(), INFO, Durations(config, 1000), log)


@pytest.mark.parametrize("kind", SECTIONS)
def test_does_not_change_variables_and_is_deterministic(kind):
    """Parameters and batch statistics are bitwise unchanged, and so are repeated results."""
    variables = {"": draw_variables(0), "ema_": draw_variables(1)}
    before = jax.tree.map(lambda x: np.asarray(x).tobytes(), variables)
    _, evaluator = create(probe=SECTIONS[kind] | {"type": kind})["probe"]
    first, second = evaluator.run(variables), evaluator.run(variables)
    assert jax.tree.map(lambda x: np.asarray(x).tobytes(), variables) == before
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert first.keys() == {*first} and any(name.startswith("ema_") for name in first)
    for value in first.values():
        if isinstance(value, np.ndarray):
            assert value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3
        else:
            assert type(value) in (int, float)


def test_protocols_are_logged_if_all_evaluators_are_valid():
    log = []
    created = create(log.append, a=SECTIONS["knn"] | {"type": "knn"}, b={"type": "embedding_map"})
    lines = [f"evaluators.{name}: {evaluator.protocol}" for name, (_, evaluator) in created.items()]
    assert log == lines and log[1].startswith("evaluators.b: embedding_map: pca")
    log.clear()
    with pytest.raises(ConfigError):
        create(log.append, a={"type": "embedding_map"}, b={"type": "knn", "split": "val"})
    assert log == []


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"k": "many"}, "config.evaluators.probe.k='many': must be of type int"),
        ({"k": True}, "config.evaluators.probe.k=True: must be of type int"),
        ({"k": 0}, "config.evaluators.probe.k=0: must be above 0"),
        ({"temperature": -1}, "config.evaluators.probe.temperature=-1: must be above 0"),
        ({"batch_size": 1.5}, r"probe.batch_size=1.5: must be of type int \| None"),
        ({"kk": 5}, "config.evaluators.probe.kk='kk': unknown; did you mean 'k'"),
        ({"layer": "head"}, "config.evaluators.probe: layer='head'.* has backbone, projector"),
        (
            {"split": "train"},
            "config.evaluators.probe: split='train' overlaps with train_split='train'",
        ),
        ({"type": "few_shot", "shots": 5}, r"shots=5: must be of type tuple\[int, ...\]"),
        ({"type": "few_shot", "shots": ()}, r"shots=\(\): must be of type tuple\[int, ...\]"),
        ({"type": "few_shot", "shots": (1, 0)}, r"shots=\(1, 0\): must be above 0"),
        ({"type": "few_shot", "shots": (900,)}, "class '0' has 14. examples, fewer than 900"),
        ({"type": "linear_probe", "grid": (1, "x")}, r"must be of type tuple\[float, ...\]"),
        ({"type": "embedding_map", "method": "umap"}, "probe: method='umap': .*'pca' or 'tsne'"),
        ({"type": "classification"}, "config.evaluators.probe: .*no logits to classify by"),
    ],
)
def test_mistakes(section, message):
    with pytest.raises(ConfigError, match=message) as e:
        create(probe={"type": "knn"} | section)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("kind", ["knn", "linear_probe", "few_shot"])
@pytest.mark.parametrize(
    ("train_split", "split", "valid"),
    [
        ("train[:1000]", "train[500:]", False),
        ("test[:50%]", "test", False),
        ("train[:50%]", "train[1000:]", False),
        ("train[:500]", "train[1000:]", True),
    ],
)
def test_examples_are_not_evaluated_on_themselves(
    tmp_path, capsys, kind, train_split, split, valid
):
    """By the command: the overlap of 500 images gave kNN 89.7 % instead of 77.9 %."""
    command = [
        "--config=configs/digits.py",
        "--config.total=1 steps",
        "--config.model.width=4",
        "--config.model.stage_sizes=(1,)",
        "--config.compile_cache=",
        "--config.evaluators.test.every=100 steps",
        f"--config.evaluators.probe.type={kind}",
        f"--config.evaluators.probe.train_split={train_split}",
        f"--config.evaluators.probe.split={split}",
        f"--workdir={tmp_path}",
    ]
    if valid:
        create(probe={"type": kind, "train_split": train_split, "split": split})
        return
    assert exit_code(lambda: main(command)) == 2
    err = capsys.readouterr().err
    assert err.startswith(
        f"error: config.evaluators.probe: split={split!r} overlaps with "
        f"train_split={train_split!r}, so examples would be evaluated on themselves; use two "
    )
    assert err.count("\n") == 1


def test_options_accept_ints_for_floats_and_lists_for_tuples():
    created = create(
        a=SMALL | {"type": "linear_probe", "grid": [1, 0.5]},
        b={"type": "knn", "temperature": 1, "batch_size": None},
    )
    assert list(created) == ["a", "b"]


def test_in_training(tmp_path, capsys):
    """Evaluators run at the right steps, and a restart keeps their results."""
    command = [
        "--config=configs/digits.py",
        "--config.total=6 steps",
        "--config.model.width=4",
        "--config.model.stage_sizes=(1,)",
        "--config.ema=0.5",
        "--config.compile_cache=",
        "--config.evaluators.test.every=100 steps",
        "--config.evaluators.knn.type=knn",
        "--config.evaluators.knn.every=3 steps",
        "--config.evaluators.linear.type=linear_probe",
        "--config.evaluators.linear.train_split=train[:200]",
        "--config.evaluators.linear.grid=(0.01, 1.0)",
        "--config.evaluators.linear.every=100 steps",
        "--config.evaluators.shots.type=few_shot",
        "--config.evaluators.shots.shots=(1, 2)",
        "--config.evaluators.shots.every=100 steps",
        "--config.evaluators.map.type=embedding_map",
        "--config.evaluators.map.every=2 steps",
        "--config.checkpoint.keep_best=knn/accuracy",
        f"--workdir={tmp_path}",
    ]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "evaluators.knn: knn: 200 neighbors, cosine, T=0.07; backbone features" in out
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    measured = {line["step"]: line for line in lines if "knn/accuracy" in line}
    assert list(measured) == [3, 6]
    last = measured[6]
    for name in (
        *("knn/accuracy", "knn/top5_accuracy", "knn/feature_std", "linear/accuracy", "linear/C"),
        *("linear/ema_holdout_accuracy", "shots/accuracy_1shot", "shots/ema_accuracy_2shot_std"),
    ):
        assert 0 <= last[name] <= 1, name
    # Better than chance, even after six steps of a model with four features.
    assert last["knn/accuracy"] > 0.2 and last["linear/accuracy"] > 0.2
    assert not any(key.startswith("map/") for line in lines for key in line)

    found = sorted(p.name for p in (tmp_path / "report").iterdir())
    assert found == [f"map_{p}pca_{s:08}.png" for p in ("ema_", "") for s in (2, 4, 6)]
    pictures = {name: (tmp_path / "report" / name).read_bytes() for name in found}
    assert {Image.open(tmp_path / "report" / name).size for name in found} == {(900, 700)}
    assert all(f"step {step}/6 " in out for step in (2, 3, 4, 6)) and found[-1] in out
    assert find_checkpoint(tmp_path).step == 6
    # The same command finds the run complete, and does not change the images.
    assert main(command) == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "report").iterdir()} == pictures
