"""Predictions as files: JSON lines, CSV, pre-annotations for Label Studio, Darwin JSON of V7."""

import csv
import json
import os
import pathlib
import uuid
from collections.abc import Iterable
from typing import TextIO
from urllib.parse import quote

from imgcls.core import errors
from imgcls.core.errors import ConfigError
from imgcls.core.storage import replace_bytes
from imgcls.predict.prediction import Prediction

# Values of `--format`.
OUTPUT_FORMATS = ("jsonl", "csv", "labelstudio", "darwin")


def write_jsonl(out: TextIO, predictions: Iterable[Prediction]) -> None:
    """One JSON object a line: the path, the labels, the best classes with their scores."""
    for prediction in predictions:
        scores = [{"class": name, "score": score} for name, score in prediction.scores.items()]
        line = {"path": prediction.path, "labels": prediction.labels, "predictions": scores}
        print(json.dumps(line), file=out, flush=True)


def write_csv(out: TextIO, predictions: Iterable[Prediction], separator: str) -> None:
    """A table with the columns path, labels, class_1, score_1, class_2, ...

    All texts are quoted, so that no name is taken for anything else by a reader of CSV.

    Args:
      out: the file.
      predictions: of files.
      separator: between the labels of one picture.
    """
    table = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    for number, prediction in enumerate(predictions):
        pairs = prediction.scores.items()
        if number == 0:
            columns = [f"{c}_{n}" for n in range(1, len(pairs) + 1) for c in ("class", "score")]
            table.writerow(["path", "labels", *columns])
        values = [value for pair in pairs for value in pair]
        table.writerow([prediction.path, separator.join(prediction.labels), *values])


def write_labelstudio(
    out: TextIO,
    predictions: Iterable[Prediction],
    root: str,
    *,
    model_version: str,
    from_name: str,
    to_name: str,
    image_prefix: str,
) -> None:
    """The JSON list of tasks that Label Studio imports, pre-annotated with choices.

    The format is that of https://labelstud.io/guide/predictions. A task's score, by which tasks can
    be sorted there, is the probability of the best class.

    Args:
      out: the file.
      predictions: of files under `root`.
      root: what the paths in the tasks are relative to.
      model_version: shown beside each prediction.
      from_name, to_name: names of the `Choices` and the `Image` in the labeling configuration.
      image_prefix: what stands in front of each path, percent-encoded, to make a URL of it.
    """
    separator = "[\n"
    for prediction in predictions:
        choices = {
            "from_name": from_name,
            "to_name": to_name,
            "type": "choices",
            "value": {"choices": prediction.labels},
        }
        found = {
            "model_version": model_version,
            "score": float(prediction.probabilities.max()),
            "result": [choices] if prediction.labels else [],
        }
        url = image_prefix + quote(os.fsencode(prediction.relative_path(root)))
        out.write(separator + json.dumps({"data": {"image": url}, "predictions": [found]}))
        separator = ",\n"
    out.write("[]\n" if separator == "[\n" else "\n]\n")


def write_darwin(folder: str, predictions: Iterable[Prediction], root: str) -> None:
    """A file of Darwin JSON 2.0 for each picture, `FOLDER/RELATIVE/PATH.json`: a tag per label.

    The format is that of https://docs.v7labs.com/reference/darwin-json.

    Args:
      folder: where the files go.
      predictions: of files under `root`.
      root: the folder that is the data set's `/`.

    Raises:
      ConfigError: a file that can't be written.
    """
    for prediction in predictions:
        file = prediction.relative_path(root)
        path, name = os.path.split(file)
        item = {"name": name, "path": f"/{path}"}
        annotations = [
            {"id": str(uuid.uuid4()), "name": label, "tag": {}} for label in prediction.labels
        ]
        found = {"version": "2.0", "item": item, "annotations": annotations}
        write_beside(folder, f"{file}.json", (json.dumps(found, indent=2) + "\n").encode())


def write_beside(folder: str, name: str, data: bytes) -> None:
    """Writes `FOLDER/NAME`, whole or not at all, and makes the folders that it takes.

    Raises:
      ConfigError: it can't be written.
    """
    path = pathlib.Path(folder, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, data)
    except OSError as e:
        raise ConfigError(f"{path}: can't be written: {errors.one_line(e)}") from e
