"""The command `evaluate`: the same metrics as in training, other data, and calibration."""

import contextlib
import csv
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from imgcls.data.sources.open import create_source
from imgcls.evaluate import __main__ as evaluate
from imgcls.evaluate.calibration import PLAIN
from imgcls.evaluate.metrics import measure
from imgcls.evaluate.table import table_of
from tests.conftest import exit_code
from tests.disks import fill
from tests.evaluate.cases import make_outcomes
from tests.make import draw_pictures, save_run


@pytest.fixture(scope="module")
def last_evaluation(workdir) -> dict:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    line = next(line for line in reversed(lines) if "test/accuracy" in line)
    assert line.pop("step") == max(line["step"] for line in lines if "step" in line)
    del line["time"]
    return line


@pytest.fixture(scope="module")
def completed(command, workdir):
    """The command in its own process, on one device."""
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
    """Checks that `metrics` contains all metrics of the training log."""
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, rel=rel)


def test_metrics_equal_those_of_the_last_evaluation_in_training(completed, last_evaluation):
    assert completed.returncode == 0, completed.stderr
    metrics = json.loads(completed.stdout[completed.stdout.index("{") :])
    check_same(metrics, last_evaluation, 1e-6)
    assert metrics["test/examples"] == metrics["test/ema_examples"] == 359
    # Both sets of parameters, and better than chance.
    assert metrics["test/loss"] != pytest.approx(metrics["test/ema_loss"], rel=1e-3)
    assert min(metrics["test/accuracy"], metrics["test/ema_accuracy"]) > 0.3


def test_stdout_is_one_json_object(completed):
    assert "test/accuracy" in json.loads(completed.stdout)


def test_on_other_devices_and_batches(run, last_evaluation):
    code, metrics, _ = run("--config.batch_size=40")
    assert code == 0
    check_same(metrics, last_evaluation, 1e-5)


def test_directory_of_one_checkpoint(run, workdir, last_evaluation):
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
def test_images_are_saved_and_stdout_is_json(capsys, workdir, as_checkpoint):
    """Only metrics on stdout; protocols and the paths of images on stderr."""
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
    assert "evaluators.near: knn: 5 neighbors, cosine" in err
    assert "evaluators.test: classification:" in err


def write_digits(root, names: list[str]) -> None:
    """Writes the test split of digits as PNGs, and a training split of one image."""
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
    """The same images from files give the same metrics."""
    write_digits(tmp_path, list("0123456789"))
    code, metrics, _ = run(f"--config.data.source=folder:{tmp_path}")
    assert code == 0
    check_same(metrics, last_evaluation, 1e-5)


# ---- Intervals, tables and a calibration.


@pytest.fixture(scope="module")
def calibrated(workdir, tmp_path_factory):
    """A copy of the run, calibrated on a part of training: `(folder, metrics, stderr)`."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(workdir, folder, ignore=shutil.ignore_patterns("report"))
    return folder, *call(f"--workdir={folder}", "--calibrate=train[:300]", "--bootstrap=50")


def call(*arguments: str) -> tuple[dict, str]:
    """Runs the command in this process; returns its metrics and its standard error."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = exit_code(lambda: evaluate.main(list(arguments)))
    assert code == 0, err.getvalue()
    return json.loads(out.getvalue()), err.getvalue()


def test_intervals(completed):
    metrics = json.loads(completed.stdout)
    for name in ("accuracy", "ema_f1", "ema_map", "nll"):
        low, high = metrics[f"test/{name}_interval"]
        assert low < metrics[f"test/{name}"] < high < low + 0.4
    assert "test/examples_interval" not in metrics
    assert "fitted on" not in completed.stderr


def test_calibrate(calibrated, last_evaluation):
    folder, metrics, err = calibrated
    (path,) = folder.glob("checkpoints/*/calibration.json")
    saved = json.loads(path.read_text())
    assert (saved["split"], saved["examples"], saved["thresholds"]) == ("train[:300]", 300, None)
    change = re.search(
        r"calibrated on train\[:300\] \(300 examples\): ece \S+ -> \S+, nll (\S+) -> (\S+); (.*)",
        err,
    )
    assert float(change[2]) < float(change[1]) and change[3] == str(path)
    assert f"temperature {saved['temperature']:.4g}, fitted on train[:300]: applied to the " in err
    assert "averaged (EMA) parameters" in err and "warning" not in err
    # The plain parameters are not calibrated. The averaged ones predict the same classes with other
    # probabilities.
    prefixes = ("", "ema_")
    for name in (*(p + n for p in prefixes for n in ("accuracy", "f1", "loss")), "ece", "brier"):
        assert metrics[f"test/{name}"] == pytest.approx(last_evaluation[f"test/{name}"], rel=1e-5)
    assert metrics["test/ema_brier"] != pytest.approx(last_evaluation["test/ema_brier"], rel=0.01)
    assert metrics["test/ema_nll"] != pytest.approx(last_evaluation["test/ema_loss"], rel=1e-3)


def test_calibration_is_loaded_again(calibrated, tmp_path):
    """With a warning if an evaluator uses the split that it was fitted on."""
    trained, metrics, _ = calibrated
    folder = shutil.copytree(trained, tmp_path / "run")
    again, err = call(f"--workdir={folder}", "--bootstrap=50")
    assert again == metrics and "fitted on train[:300]" in err and "warning" not in err
    arguments = "--config.evaluators.test.split=train", "--config.evaluators.test.batch_size=256"
    _, err = call(f"--workdir={folder}", "--bootstrap=0", *arguments)
    assert "warning: evaluators.test evaluates on train, but the calibration was fitted on" in err


def test_files_are_of_the_variables_that_predict_uses(calibrated):
    folder, metrics, err = calibrated
    table, summary = (
        folder / "report" / "test_predictions.csv",
        folder / "report" / "test_metrics.json",
    )
    assert f"results of the averaged (EMA) parameters: {table}, {summary}" in err
    assert sorted(p.name for p in table.parent.iterdir()) == [summary.name, table.name]
    loaded = json.loads(summary.read_text())
    for name, value in loaded["metrics"].items():
        assert metrics[f"test/ema_{name}"] == value
        if name in loaded["intervals"]:
            assert metrics[f"test/ema_{name}_interval"] == loaded["intervals"][name]
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "label", "prediction", "probability"] and len(rows) == 359
    source = create_source("digits", "test")
    assert [row["id"] for row in rows] == [source.name(i) for i in range(359)]
    assert [row["label"] for row in rows] == [str(source[i]["label"]) for i in range(359)]
    correct = [row["label"] == row["prediction"] for row in rows]
    assert np.mean(correct) == pytest.approx(metrics["test/ema_accuracy"])
    # The probabilities are those after the temperature.
    gap = np.mean([float(row["probability"]) for row in rows]) - np.mean(correct)
    assert abs(gap) <= metrics["test/ema_ece"] + 1e-6


STRANGE = ("=a|b", "plain\\", 'say "no", -1')


def test_multi_label(tmp_path):
    """Thresholds, and class and file names with characters that are special in CSV."""
    run = save_run(tmp_path / "run", STRANGE, multi_label=True, loss="sigmoid")
    data = tmp_path / "data"
    pictures, rng, lines = draw_pictures(80), np.random.default_rng(0), []
    data.mkdir()
    logits = run.logits(pictures)
    hot = logits + rng.normal(size=logits.shape) > 1
    names = [f'=1+{i}, "x"|y.png' if i % 2 else f"-{i}.png" for i in range(80)]
    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(data / names[i])
        labels = [STRANGE[c] for c in np.flatnonzero(hot[i])]
        split = "test" if i < 40 else "val"
        lines.append(json.dumps({"image": names[i], "labels": labels, "split": split}) + "\n")
    (data / "all.jsonl").write_text("".join(lines))
    metrics, err = call(
        f"--workdir={run.workdir}",
        "--calibrate=val",
        "--bootstrap=20",
        "--config.data.workers=0",
        f"--config.data.source=manifest:{data / 'all.jsonl'}",
        "--config.evaluators.test.split=test",
    )
    (path,) = run.workdir.glob("checkpoints/*/calibration.json")
    thresholds = np.array([json.loads(path.read_text())["thresholds"][name] for name in STRANGE])
    fitted = np.sum(thresholds != 0.5)
    assert fitted and f"thresholds for {fitted} of 3 classes" in err and ", fitted on val" in err
    assert float(re.search(r"macro_f1 (\S+) -> (\S+);", err)[2]) > metrics["test/macro_f1"] * 0.7
    with open(run.workdir / "report" / "test_predictions.csv", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["id", "label", "prediction", *(f"probability {n}" for n in STRANGE)]
    assert sorted(row[0] for row in rows) == sorted(str(data / name) for name in names[:40])
    scores = np.array([[float(x) for x in row[3:]] for row in rows])
    joined = ["=a\\|b", "plain\\\\", STRANGE[2]]

    def join(row):
        return "|".join(joined[c] for c in np.flatnonzero(row))

    predictions = scores >= thresholds
    assert [row[2] for row in rows] == [join(row) for row in predictions]
    expected = {str(data / name): row for name, row in zip(names, hot, strict=True)}
    labels = np.array([expected[row[0]] for row in rows])
    assert [row[1] for row in rows] == [join(row) for row in labels]
    assert metrics["test/exact_match"] == pytest.approx(np.mean((labels == predictions).all(1)))
    summary = json.loads((run.workdir / "report" / "test_metrics.json").read_text())
    assert [row["threshold"] for row in summary["classes"]] == thresholds.tolist()


@pytest.mark.parametrize("task", ["softmax", "sigmoid", "binary"])
def test_scores_of_every_class(task):
    """After the temperature, by a loop; the other columns are those without the option."""
    names = ("=a|b", 'say "no"') if task == "binary" else STRANGE
    logits = np.random.default_rng(0).normal(size=(6, 1 if task == "binary" else 3))
    outcomes = make_outcomes(logits, [0, 1, 0, 1, 1, 0], task=task, class_names=names)
    calibration = dataclasses.replace(PLAIN, temperature=2.0)
    plain, full = (
        list(csv.reader(io.StringIO(table_of(outcomes, calibration, "|", scores))))
        for scores in (False, True)
    )
    assert [row[:4] for row in full] == plain
    assert full[0][4:] == [f"probability {name}" for name in names]
    for row, values in zip(full[1:], logits / 2, strict=True):
        if task == "softmax":
            expected = np.exp(values) / np.exp(values).sum()
        else:
            expected = 1 / (1 + np.exp(-values))
        if task == "binary":
            expected = np.array([1 - expected[0], expected[0]])
        assert [float(x) for x in row[4:]] == pytest.approx(expected.tolist(), rel=1e-5)
        assert float(row[3]) == max(map(float, row[4:]))


def test_file_name_that_is_not_utf8(tmp_path):
    """The bytes of the name are preserved."""
    name = b"caf\xe9\r\n.png".decode(errors="surrogateescape")
    logits = np.log([[0.25, 0.75]])
    outcomes = make_outcomes(logits, [0], class_names=("a", "b"), names=[name])
    table = table_of(outcomes, PLAIN, "|")
    assert table == f'"id","label","prediction","probability"\n"{name}","a","b",0.75\n'
    evaluate.write_report(tmp_path, "x", table, measure(outcomes, bootstrap=0), "")
    assert b'"caf\xe9\r\n.png","a"' in (tmp_path / "x_predictions.csv").read_bytes()


# ---- Mistakes: one line, exit code 2.


def check_mistake(result: tuple, *messages: str) -> None:
    code, metrics, err = result
    assert (code, metrics) == (2, {})
    assert err.startswith("error: ") and err.count("\n") == 1
    assert all(message in err for message in messages)


def test_other_classes(run, tmp_path):
    write_digits(tmp_path / "named", [*"012345678", "nine"])
    result = run(f"--config.data.source=folder:{tmp_path / 'named'}")
    check_mistake(result, "examples have classes that are not in the model ('nine')")


def test_no_checkpoint(command, tmp_path):
    result = command("evaluate", f"--workdir={tmp_path}")
    out, err = result.stdout, result.stderr
    assert (result.returncode, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"error: {tmp_path}: no checkpoint there")


@pytest.mark.parametrize(
    ("override", "messages"),
    [
        ("--bootstrap=-1", ("--bootstrap=-1: must be 0 or more",)),
        ("--calibrate=val", ("--calibrate=val: ", "digits has the splits train, test")),
        ("--calibrate=train[", ("--calibrate=train[: split 'train['", "not understood")),
        ("--config.data.sorce=digits", ("config.data.sorce: unknown key", "'source'")),
        ("--config.evaluators.test.split=val", ("digits has the splits train, test",)),
        ("--config.evaluators.test.splt=test", ("did you mean 'split'",)),
        ("--config.evaluators.test.batch_size=big", ("test.batch_size='big': must be of type",)),
        ("--config.evaluators.test.type=reconstructions", ("'supervised' does not reconstruct",)),
        ("--config.evaluators.a={'type': 'knn', 'layer': 'x'}", ("evaluators.a: layer='x'",)),
        ("--config.data.source=folder:/no/such", ("/no/such: no such directory or zip",)),
        ("--congif.seed=1", ("--congif.seed=1: not understood",)),
        # The parameters of the checkpoint do not fit another model.
        ("--config.model.width=16", ("width",)),
    ],
)
def test_wrong_overrides(run, override, messages):
    check_mistake(run(override), *messages)


def test_disk_is_full(run, workdir, small_disk):
    with small_disk(20_000_000) as disk:
        copied = shutil.copytree(workdir, disk / "run")
        shutil.rmtree(copied / "report", ignore_errors=True)
        fill(disk)
        code, _, err = run(workdir=copied)
        assert code == 1 and err.splitlines()[-1].endswith(": No space left on device"), err
        assert f"error: {copied / 'report'}" in err
