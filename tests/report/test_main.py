"""The report: contents of the page, choice of images, and tables."""

import base64
import io
import json
import re
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from imgcls.data import create
from imgcls.evaluate.calibration import PLAIN, Calibration, decide
from imgcls.evaluate.metrics import measure
from imgcls.evaluate.outcomes import Outcomes
from imgcls.report import charts, gallery, tables
from imgcls.report import results as results_lib
from imgcls.report.__main__ import main
from imgcls.runs.load import find_checkpoint
from tests import reports
from tests.conftest import exit_code


@pytest.fixture(scope="session")
def digits(workdir, tmp_path_factory):
    """`(path, page)` of the run on digits."""
    path = reports.digits_page(workdir, tmp_path_factory.getbasetemp())
    return path, reports.Page(path)


@pytest.fixture(scope="session")
def strange(tmp_path_factory):
    """`(path, page)` of a multi-label checkpoint with unusual names and without logs."""
    path = reports.strange_page(tmp_path_factory.getbasetemp())
    return path, reports.Page(path)


# ---- The page.


def test_sections_and_links(digits, strange):
    sections = ["run", "data", "training", "metrics", "classes", "confusion", "precision-recall"]
    expected = {
        digits: [*sections, "calibration", "mistakes", "doubts", "hits", "map"],
        # Without logs there are no training curves, and multi-label has no confusion matrix.
        strange: [
            *(s for s in sections if s not in ("training", "confusion")),
            *("calibration", "false_yes", "false_no", "doubts", "hits", "map"),
        ],
    }
    for (_, page), names in expected.items():
        assert [a["id"] for tag, a in page.tags if tag == "h2"] == names
        links = [a["href"] for tag, a in page.tags if tag == "a"]
        assert links == [f"#{name}" for name in names]


def test_page_loads_nothing(digits, strange):
    for path, page in (digits, strange):
        for tag, attributes in page.tags:
            for name in ("src", "href", "srcset", "data", "action"):
                assert attributes.get(name, "#").startswith(("data:", "#")), (tag, attributes)
            # No name has added an event handler.
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
        assert not re.search(r"url\(|@import", path.read_text())
        assert path.stat().st_size < 3_000_000
        assert not list(path.parent.glob("*.partial"))


def decode_charts(page: reports.Page) -> list[str]:
    """Returns the text of each SVG; fails if one is not well-formed."""
    prefix = "data:image/svg+xml;base64,"
    sources = [a["src"] for tag, a in page.tags if tag == "img" and a["src"].startswith(prefix)]
    roots = [ET.fromstring(base64.b64decode(source.removeprefix(prefix))) for source in sources]
    return ["\n".join(t.strip() for t in root.itertext() if t.strip()) for root in roots]


def test_unusual_names_are_unchanged(strange):
    _, page = strange
    for name in (*reports.STRANGE, *reports.NAMES):
        assert name in page.text
    # In the legends of the curves and the map, long names are shortened.
    shown = ("$x^{$", "<img src=x onerror=al…", "_under", "nul\N{REPLACEMENT CHARACTER} & 猫")
    with_names = [text for text in decode_charts(page) if all(n in text for n in shown)]
    assert len(with_names) == 2


def test_metrics_equal_those_of_the_last_evaluation_in_training(digits, workdir):
    """Of the averaged parameters."""
    _, page = digits
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = next(line for line in reversed(lines) if "test/accuracy" in line)
    metrics = {row[0]: row[1:] for row in page.table("metric", "value")}
    for name in ("accuracy", "top5_accuracy", "loss"):
        assert float(metrics[name][0]) == pytest.approx(last[f"test/ema_{name}"], abs=6e-5)
    low, high = map(float, metrics["accuracy"][1].split(" to "))
    assert low < last["test/ema_accuracy"] < high and high - low < 0.15
    # No number is listed twice under different names.
    assert next(iter(metrics)) == "accuracy" and not {"f1", "micro_f1"} & metrics.keys()
    assert all(meaning for *_, meaning in metrics.values())

    (matrix,) = [t[1:] for t in page.tables if [c.strip() for c in t[0]] == ["", *"0123456789"]]
    counts = np.array([row[1:] for row in matrix], int)
    assert counts.sum() == 359 and [row[0] for row in matrix] == list("0123456789")
    assert np.trace(counts) / 359 == pytest.approx(last["test/ema_accuracy"], abs=1e-6)
    classes = page.table("class", "examples", "precision")
    np.testing.assert_array_equal(counts.sum(1), [int(row[1]) for row in classes])
    recall = np.diag(counts) / counts.sum(1)
    np.testing.assert_allclose([float(row[3]) for row in classes], recall, atol=6e-4)
    pairs = page.table("label", "predicted")
    assert pairs and all(int(n) == counts[int(a), int(b)] for a, b, n, _ in pairs)
    splits = {row[0]: row[1] for row in page.table("split", "examples")}
    assert splits == {"train": "1,438", "train[:200]": "200", "test": "359"}


def test_calibration_is_saved_and_drawn(digits):
    path, page = digits
    saved = json.loads((find_checkpoint(path.parents[1]).path / "calibration.json").read_text())
    assert (saved["split"], saved["examples"], saved["thresholds"]) == ("train[:200]", 200, None)
    assert f"Temperature {saved['temperature']:.3f}, fitted on 200 examples" in page.text
    captions = re.findall(r"([\w. ]+): expected calibration error ([\d.]+)%", page.text)
    assert [caption for caption, _ in captions] == [
        "As trained",
        f"At temperature {saved['temperature']:.3f}",
    ]
    assert "too optimistic" not in page.text
    metrics = {row[0]: row[1] for row in page.table("metric", "value")}
    assert float(captions[1][1]) == pytest.approx(100 * float(metrics["ece"]), abs=0.06)


def test_thresholds_of_multi_label(strange):
    path, page = strange
    (file,) = path.parent.glob("strange/checkpoints/*/calibration.json")
    saved = json.loads(file.read_text())
    assert saved["split"] == "val"
    rows = page.table("class", "examples")
    thresholds = {row[0]: float(row[7]) for row in rows}
    assert thresholds == pytest.approx(
        {name.strip(): value for name, value in saved["thresholds"].items()}, abs=6e-4
    )
    # Precision and recall agree with the counts of each class.
    for _, support, precision, recall, *_, wrong, missed in rows:
        hits = int(support) - int(missed)
        assert float(recall) == pytest.approx(hits / int(support), abs=6e-4)
        assert float(precision) == pytest.approx(hits / max(hits + int(wrong), 1), abs=6e-4)


def test_second_report(strange, tmp_path_factory, capsys):
    """A second report has the same bytes. Calibration on evaluated examples gives a warning."""
    path, _ = strange
    again = path.with_name("again.html")
    arguments = reports.strange_run(tmp_path_factory.getbasetemp())
    assert exit_code(lambda: main([*arguments, f"--out={again}"])) == 0
    printed = capsys.readouterr().out
    assert re.match(r"calibrated on val: temperature \S+ and thresholds for . of 4 clas", printed)
    assert printed.endswith(f"\n{again}\n") and printed.count("\n") == 2
    assert again.read_bytes() == path.read_bytes()
    arguments += ["--split=val", f"--out={again}"]
    assert exit_code(lambda: main(arguments)) == 0
    assert "too optimistic" in reports.Page(again).text


def test_every_split_is_opened_once(strange, tmp_path_factory, monkeypatch):
    opened = []

    def open_split(config, split, data=None):
        opened.append(split)
        return create.open_split(config, split, data)

    monkeypatch.setattr(results_lib, "open_split", open_split)
    path, _ = strange
    arguments = reports.strange_run(tmp_path_factory.getbasetemp())
    out = path.with_name("once.html")
    assert exit_code(lambda: main([*arguments, f"--out={out}"])) == 0
    # The data has no split to train on.
    assert sorted(opened) == ["test", "train", "val"]


# ---- Choice of images.


def make_results(task: str, examples: int = 60, classes: int = 5, thresholds=None):
    """Makes random predictions, rounded so that there are ties."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(examples, classes)).round(1).astype(np.float32)
    if task == "multi_label":
        labels = (rng.random((examples, classes)) < 0.3).astype(np.uint8)
        scores = 1 / (1 + np.exp(-logits))
    else:
        labels = rng.integers(0, classes, examples)
        scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    names, index = [f"/data/{i % 3}/{i}.png" for i in range(examples)], np.arange(examples)
    kinds = tuple("abcdefghij"[:classes])
    found = Outcomes(
        class_names=kinds,
        task=task,
        names=names,
        index=index,
        labels=labels,
        logits=logits,
        scores=scores,
    )
    calibration = Calibration(1.0, thresholds, "val", 9) if thresholds is not None else PLAIN
    return types.SimpleNamespace(
        predictions=found,
        class_names=kinds,
        calibration=calibration,
        decisions=decide(scores, calibration, task),
        multi_label=task == "multi_label",
        summary=measure(found, calibration, bootstrap=0),
    )


def groups_of(results, count: int) -> dict[str, list[tuple[int, int]]]:
    found = gallery.choose(results, count)
    return {g.name: list(zip(g.rows.tolist(), g.classes.tolist(), strict=True)) for g in found}


@pytest.mark.parametrize("count", [3, 7, 100])
def test_choice_of_single_labels(count):
    results = make_results("softmax")
    labels, scores = results.predictions.labels, results.predictions.scores
    predicted = scores.argmax(1)
    groups = groups_of(results, count)
    assert list(groups) == ["mistakes", "doubts", "hits"]
    by_confidence = sorted(range(60), key=lambda i: -scores[i].max())
    expected = [(i, predicted[i]) for i in by_confidence if predicted[i] != labels[i]][:count]
    assert groups["mistakes"] == expected
    doubts = [scores[i].max() for i, _ in groups["doubts"]]
    assert doubts == sorted(scores.max(1))[:count]
    # The most confident correct prediction of each class, sorted by class.
    best = {}
    for i in by_confidence:
        if predicted[i] == labels[i]:
            best.setdefault(int(labels[i]), i)
    kept = sorted(best.items(), key=lambda pair: -scores[pair[1]].max())[:count]
    assert groups["hits"] == [(i, k) for k, i in sorted(kept)]


@pytest.mark.parametrize("count", [3, 10, 1000])
@pytest.mark.parametrize("thresholds", [None, np.array([0.3, 0.5, 0.6, 0.2, 0.9])])
def test_choice_of_multi_label(count, thresholds):
    results = make_results("multi_label", thresholds=thresholds)
    labels, scores = results.predictions.labels, results.predictions.scores
    limit = np.full(5, 0.5) if thresholds is None else thresholds
    predicted = scores > limit if thresholds is None else scores >= limit
    groups = groups_of(results, count)
    for name, wanted, sign in (
        ("false_yes", predicted & (labels == 0), -1),
        ("false_no", ~predicted & (labels == 1), 1),
        ("hits", predicted & (labels == 1), -1),
    ):
        pairs = []
        share = int(np.ceil(count / wanted.any(0).sum()))
        for k in range(5):
            rows = sorted(np.flatnonzero(wanted[:, k]), key=lambda i: sign * scores[i, k])
            pairs += [(int(i), k) for i in rows[:share]]
        if len(pairs) > count:
            pairs = sorted(pairs, key=lambda pair: sign * scores[pair])[:count]
            pairs = sorted(pairs, key=lambda pair: pair[1])
        assert groups[name] == pairs, name
    gaps = np.abs(scores - limit)
    found = [gaps[pair] for pair in groups["doubts"]]
    np.testing.assert_allclose(found, np.sort(gaps.min(1))[:count])


def test_no_mistakes():
    results = make_results("softmax")
    results.predictions.labels[:] = results.decisions
    assert list(groups_of(results, 5)) == ["doubts", "hits"]


def test_images_match_their_names(strange):
    """Each image has the pixels of the file below it, and some have heat maps."""
    path, page = strange
    files = {f.name: f for f in path.with_name("strange data").glob("*.png")}
    images = [a["src"] for tag, a in page.tags if tag == "img" and "png" in a["src"][:20]]
    titles = [a["title"] for tag, a in page.tags if tag == "span" and "title" in a]
    heat = [a["alt"] for tag, a in page.tags if tag == "img" and "heat map" in a.get("alt", "")]
    assert 12 < len(titles) <= 24 and 0 < len(heat) <= len(titles)
    plain = [a["src"] for tag, a in page.tags if tag == "img" and a.get("alt") == ""]
    assert len(plain) == len(titles) and len(images) == len(plain) + len(heat)
    for source, title in zip(plain, titles, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        with Image.open(files[title.rpartition("/")[2]]) as expected:
            np.testing.assert_array_equal(np.asarray(shown), np.asarray(expected))


# ---- Tables and curves.


def test_history(tmp_path):
    assert tables.read_history(tmp_path) == ({}, None)
    lines = [
        '{"step": 5, "time": 1.5, "train/loss": 2.0, "train/learning_rate": 0.1}',
        '{"step": 10, "time": 2.5, "train/loss": "nan", "train/accuracy": 0.5}',
        '{"step": 10, "time": 3.5, "test/accuracy": 0.25, "test/ema_accuracy": 0.75, "a/f1": 1}',
        '{"step": 15, "ti',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    found, ended = tables.read_history(tmp_path)
    assert ended == 3.5
    assert {what: list(series) for what, series in found.items()} == {
        "loss": ["train/loss"],
        "learning rate": ["train/learning_rate"],
        "accuracy": ["train/accuracy", "test/accuracy", "test/ema_accuracy"],
        "f1": ["a/f1"],
    }
    np.testing.assert_array_equal(found["loss"]["train/loss"], [[5, 10], [2, np.nan]])


def test_many_classes_have_pairs_instead_of_a_matrix():
    results = make_results("softmax")
    matrix = results.summary.confusion
    pairs = tables.confused_pairs(results)
    expected = sorted(
        ((matrix[i, j], -i, -j) for i in range(5) for j in range(5) if i != j), reverse=True
    )
    names = results.class_names
    assert [(p["number"], p["label"], p["predicted"]) for p in pairs] == [
        (n, names[-i], names[-j]) for n, i, j in expected if n
    ][: tables.PAIRS]
    assert all(p["share"] == p["number"] / matrix[names.index(p["label"])].sum() for p in pairs)
    assert len(tables.confusion_rows(results)) == 5
    results.class_names = tuple(map(str, range(31)))
    assert tables.confusion_rows(results) is None


def test_many_classes_are_sorted_by_f1(monkeypatch):
    results = make_results("softmax")
    assert [row["name"] for row in tables.class_rows(results)] == list("abcde")
    monkeypatch.setattr(tables, "MATRIX", 4)
    rows = tables.class_rows(results)
    assert [row["f1"] for row in rows] == sorted(row["f1"] for row in results.summary.classes)


def test_charts_of_many_classes():
    rng = np.random.default_rng(0)
    names = [f"class {i}" for i in range(300)]
    source = charts.embedding(rng.normal(size=(900, 2)), rng.integers(0, 300, 900), names)
    svg = base64.b64decode(source.partition(",")[2])
    ET.fromstring(svg)
    assert b"class 7" not in svg and len(svg) < 500_000


# ---- Mistakes: one line, exit code 2.


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--split=tset"], ["has no split 'tset'; it has test, val\n"]),
        (
            ["--calibrate_on=test[:50%]"],
            ["test[:50%]: overlaps with test, which is evaluated"],
        ),
        (
            ["--config.data.source=folder:/gone"],
            ["/gone", "has moved, write --config.data.source=folder:/new/path"],
        ),
        (["--config.model.width=16"], ["config.model.width: is fixed by the checkpoint"]),
        (["--config.data.sorce=digits"], ["'source'"]),
        (["--examples=0"], ["--examples=0: must be 1 or more"]),
        (["--out=/proc/no/such.html"], ["--out=/proc/no/such.html: can't be written"]),
        (
            ["--config.data.source=digits"],
            ["split 'test': 359 of 359 examples have classes that are not in the model"],
        ),
        (["--exmaples=3"], ["--exmaples=3: not understood"]),
    ],
)
def test_wrong_arguments(strange, tmp_path_factory, capsys, arguments, messages):
    valid = reports.strange_run(tmp_path_factory.getbasetemp())
    code = exit_code(lambda: main([*valid, *arguments]))
    err = capsys.readouterr().err
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    assert all(message in err for message in messages), err


def test_single_label_data_for_a_multi_label_model(strange, capsys, tmp_path_factory):
    path, _ = strange
    folder = path.with_name("strange data")
    names = sorted(f.name for f in folder.glob("*.png"))
    rows = [
        {"image": image, "label": label, "split": "test"}
        for image, label in zip(names, reports.STRANGE, strict=False)
    ]
    (folder / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = reports.strange_run(tmp_path_factory.getbasetemp())
    source = f"--config.data.source=manifest:{folder / 'one.jsonl'}"
    code = exit_code(lambda: main([*arguments, source]))
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1
    assert (
        "split 'test' has one label per example, but the model was trained on any number of "
        "labels: set data.multi_label" in err
    )
