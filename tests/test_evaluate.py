"""Evaluation of a trained checkpoint: the training's numbers again, and other data."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from imgcls import evaluate
from imgcls.data.sources import create_source
from tests.conftest import exit_code


@pytest.fixture(scope="module")
def last_evaluation(workdir) -> dict:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    line = next(line for line in reversed(lines) if "test/accuracy" in line)
    assert line.pop("step") == max(line["step"] for line in lines if "step" in line)
    del line["time"]
    return line


@pytest.fixture(scope="module")
def typed(command, workdir):
    """The command as a user types it, on one device."""
    return command("evaluate", f"--workdir={workdir}")


@pytest.fixture
def run(capsys, workdir):
    """Runs the command in this process, on eight devices: `(exit code, metrics, stderr)`."""

    def run(*overrides, workdir=workdir):
        arguments = [f"--workdir={workdir}", "--bootstrap=20", *overrides]
        code = exit_code(lambda: evaluate.main(arguments))
        out, err = capsys.readouterr()
        return code, json.loads(out[out.index("{") :]) if "{" in out else {}, err

    return run


def check_same(metrics: dict, expected: dict, rel: float) -> None:
    """All that training measured, again."""
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, rel=rel)


def test_the_last_evaluation_s_metrics(typed, last_evaluation):
    assert typed.returncode == 0, typed.stderr
    metrics = json.loads(typed.stdout[typed.stdout.index("{") :])
    check_same(metrics, last_evaluation, 1e-6)
    assert metrics["test/examples"] == metrics["test/ema_examples"] == 359
    # Both sets of parameters, and better than chance.
    assert metrics["test/loss"] != pytest.approx(metrics["test/ema_loss"], rel=1e-3)
    assert min(metrics["test/accuracy"], metrics["test/ema_accuracy"]) > 0.3


def test_prints_one_json_object_and_nothing_else(typed):
    assert "test/accuracy" in json.loads(typed.stdout)


def test_on_other_devices_and_batches(run, last_evaluation):
    code, metrics, _ = run("--config.batch_size=40")
    assert code == 0
    check_same(metrics, last_evaluation, 1e-5)


def test_one_checkpoint_s_directory(run, workdir, last_evaluation):
    (checkpoint,) = (workdir / "checkpoints").iterdir()
    code, metrics, _ = run(workdir=checkpoint)
    assert code == 0
    check_same(metrics, last_evaluation, 1e-5)


def test_another_split_and_a_second_evaluator(run, last_evaluation):
    code, metrics, _ = run(
        "--config.evaluators.test.split=test[:100]",
        "--config.evaluators.rest.split=test[100:]",
    )
    assert code == 0
    assert (metrics["test/examples"], metrics["rest/examples"]) == (100, 259)
    for key in ("accuracy", "ema_accuracy", "loss", "ema_loss", "top5_accuracy"):
        both = (100 * metrics[f"test/{key}"] + 259 * metrics[f"rest/{key}"]) / 359
        assert both == pytest.approx(last_evaluation[f"test/{key}"], rel=1e-5)


@pytest.mark.parametrize("as_checkpoint", [False, True])
def test_pictures_and_pure_json(capsys, workdir, as_checkpoint):
    """Metrics alone on stdout; protocols and the paths of pictures on stderr."""
    (checkpoint,) = (workdir / "checkpoints").iterdir()
    arguments = [
        f"--workdir={checkpoint if as_checkpoint else workdir}",
        "--bootstrap=0",
        "--config.evaluators.test.split=test[:100]",
        "--config.evaluators.near.type=knn",
        "--config.evaluators.near.k=5",
        "--config.evaluators.map.type=embedding_map",
    ]
    code = exit_code(lambda: evaluate.main(arguments))
    out, err = capsys.readouterr()
    metrics = json.loads(out)
    assert code == 0 and metrics["near/accuracy"] > 0.8 and metrics["near/ema_feature_std"] > 0
    assert all(isinstance(value, (int, float)) for value in metrics.values())
    step = int(checkpoint.name)
    for prefix in ("", "ema_"):
        path = workdir / "report" / f"map_{prefix}pca_{step:08d}.png"
        assert str(path) in err.splitlines()
        assert Image.open(path).size == (900, 700)
        path.unlink()
    assert "evaluators.near: knn: 5 neighbours, cosine" in err
    assert "evaluators.test: classification:" in err


def write_digits(root, names: list[str]) -> None:
    """The digits' test split as PNGs in `root/test/CLASS`, and a training split of one picture."""
    source = create_source("digits", "test")
    images = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    for i in range(len(source)):
        number = int(source.name(i).removeprefix("digit "))
        label = source[i]["label"]
        if label < len(names):
            for split in ("test", "train")[: 2 if i == 0 else 1]:
                folder = root / split / names[label]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[number]).save(folder / f"{number}.png")


def test_other_data_of_the_same_classes(run, last_evaluation, tmp_path):
    """The same pictures from files give the same numbers."""
    write_digits(tmp_path, list("0123456789"))
    code, metrics, _ = run(f"--config.data.source=folder:{tmp_path}")
    assert code == 0
    check_same(metrics, last_evaluation, 1e-5)


# ---- Mistakes: one line, exit code 2.


def check_mistake(result: tuple, *messages: str) -> None:
    code, metrics, err = result
    assert (code, metrics) == (2, {})
    assert err.startswith("error: ") and err.count("\n") == 1
    assert all(message in err for message in messages)


def test_other_classes(run, tmp_path):
    write_digits(tmp_path / "few", list("01234"))
    result = run(f"--config.data.source=folder:{tmp_path / 'few'}")
    check_mistake(result, "split 'test' has 5 classes, the model 10")
    write_digits(tmp_path / "named", [*"012345678", "nine"])
    result = run(f"--config.data.source=folder:{tmp_path / 'named'}")
    check_mistake(result, "class 9 is 'nine', the model's is '9'")


def test_no_checkpoint_as_typed(command, tmp_path):
    result = command("evaluate", f"--workdir={tmp_path}")
    out, err = result.stdout, result.stderr
    assert (result.returncode, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"error: {tmp_path}: no checkpoint there")


@pytest.mark.parametrize(
    ("override", "messages"),
    [
        ("--config.data.sorce=digits", ("config.data.sorce: unknown key", "'source'")),
        ("--config.evaluators.test.split=val", ("digits has the splits train, test",)),
        ("--config.evaluators.test.splt=test", ("did you mean 'split'",)),
        ("--config.evaluators.test.batch_size=big", ("test.batch_size='big': must be of type",)),
        ("--config.evaluators.test.type=reconstructions", ("'supervised' reconstructs no images",)),
        ("--config.evaluators.a={'type': 'knn', 'layer': 'x'}", ("evaluators.a: layer='x'",)),
        ("--config.data.source=folder:/no/such", ("/no/such: no such directory or zip",)),
        ("--congif.seed=1", ("--congif.seed=1: not understood",)),
        # The checkpoint's parameters do not fit another model.
        ("--config.model.width=16", ("width",)),
    ],
)
def test_wrong_overrides(run, override, messages):
    check_mistake(run(override), *messages)
