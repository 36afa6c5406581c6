"""Each output format, parsed and compared with its documentation; unusual names."""

import csv
import io
import json
import os
import uuid
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.predict import formats
from imgcls.predict.prediction import Prediction

# Relative paths: Unicode, quotes, a newline, a formula, one name in two folders, similar suffixes.
PATHS = (
    "Übung/猫 1.jpg",
    'it\'s "so".png',
    "two\nlines,and;more.png",
    "=cmd|'-1'!A1.png",
    "-1+2@3.png",
    "a/1.png",
    "b/1.png",
    "b/1.jpg",
    "b/1.png.png",
    "50%25 of #1? &x=y.png",
    os.fsdecode(b"not-utf8-\xff.png"),
)
LABELS = (["=fox"], ["cat", "ant|bee"], [])


def predict(root: str) -> list[Prediction]:
    predictions = []
    for number, path in enumerate(PATHS):
        scores = {"=fox": 0.5 + number / 100, "ant|bee": 0.25, '"cat", dog': 0.125}
        row = np.array([*scores.values(), 0.001], np.float32)
        labels = LABELS[number % 3]
        predictions.append(Prediction(os.path.join(root, path), labels, scores, row))
    return predictions


def test_jsonl():
    out = io.StringIO()
    formats.write_jsonl(out, predict("root"))
    lines = out.getvalue().splitlines()
    assert len(lines) == len(PATHS) and out.getvalue().isascii()
    for line, prediction in zip(lines, predict("root"), strict=True):
        loaded = json.loads(line)
        assert loaded["path"] == prediction.path and loaded["labels"] == prediction.labels
        pairs = {best["class"]: best["score"] for best in loaded["predictions"]}
        assert list(pairs.items()) == list(prediction.scores.items())


def test_csv():
    out = io.StringIO(newline="")
    formats.write_csv(out, predict("."), separator=";")
    header, *rows = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert header == ["path", "labels", *"class_1 score_1 class_2 score_2 class_3 score_3".split()]
    for row, prediction in zip(rows, predict("."), strict=True):
        assert row[:2] == [prediction.path, ";".join(prediction.labels)]
        pairs = zip(row[2::2], map(float, row[3::2]), strict=True)
        assert dict(pairs) == prediction.scores


def test_csv_quotes_text_and_not_numbers():
    out = io.StringIO(newline="")
    formats.write_csv(out, [Prediction("=1.png", ["@b"], {"+c": 0.5}, np.ones(1))], "|")
    assert out.getvalue().splitlines()[1] == '"=1.png","@b","+c",0.5'


def write_tasks(predictions, **options) -> list:
    out = io.StringIO()
    defaults = dict(model_version="run-7", from_name="choice", to_name="image", image_prefix="")
    formats.write_labelstudio(out, predictions, **defaults | options)
    return json.loads(out.getvalue())


def test_label_studio_tasks(tmp_path):
    """Exactly the fields of https://labelstud.io/guide/predictions."""
    predictions = predict(str(tmp_path))
    options = dict(from_name="animal", to_name="picture", image_prefix="/data/local-files/?d=zoo/")
    tasks = write_tasks(predictions, root=str(tmp_path), **options)
    for task, path, prediction in zip(tasks, PATHS, predictions, strict=True):
        assert task.keys() == {"data", "predictions"} and task["data"].keys() == {"image"}
        url = urlsplit(task["data"]["image"])
        assert url._replace(query="") == ("", "", "/data/local-files/", "", "")
        query = parse_qs(url.query, strict_parsing=True, errors="surrogateescape")
        assert query == {"d": [f"zoo/{path}"]}
        (annotation,) = task["predictions"]
        assert annotation.keys() == {"model_version", "score", "result"}
        assert annotation["model_version"] == "run-7"
        assert annotation["score"] == pytest.approx(list(prediction.scores.values())[0])
        choices = {"choices": prediction.labels}
        names = {"from_name": "animal", "to_name": "picture", "type": "choices"}
        assert annotation["result"] == ([{**names, "value": choices}] if prediction.labels else [])


def test_label_studio_without_predictions():
    assert write_tasks([], root="/") == []


def test_darwin_items(tmp_path):
    """The fields of https://docs.v7labs.com/reference/darwin-json for images with tags."""
    root, out = tmp_path / "pictures", tmp_path / "out"
    predictions = predict(str(root))
    formats.write_darwin(str(out), predictions, str(root))
    written = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert written == {f"{path}.json" for path in PATHS}
    ids = []
    for path, prediction in zip(PATHS, predictions, strict=True):
        loaded = json.loads((out / f"{path}.json").read_text())
        assert loaded.keys() == {"version", "item", "annotations"} and loaded["version"] == "2.0"
        folder, name = os.path.split(path)
        assert loaded["item"] == {"name": name, "path": f"/{folder}"}
        annotations = loaded["annotations"]
        assert [a["name"] for a in annotations] == prediction.labels
        assert all(a.keys() == {"id", "name", "tag"} for a in annotations)
        assert all(a["tag"] == {} for a in annotations)
        ids += [uuid.UUID(a["id"]) for a in annotations]
    assert len(set(ids)) == len(ids) > 0


def test_write_file(tmp_path):
    formats.write_file(str(tmp_path / "new"), "a/b.png", b"1")
    formats.write_file(str(tmp_path / "new"), "a/b.png", b"22")
    assert [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()] == [b"22"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/a.png: can't be written"):
        formats.write_file(str(tmp_path / "file"), "a.png", b"1")
