"""Output formats of predictions: JSON lines, CSV, Label Studio and V7 Darwin."""

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
from imgcls.data.table.labels import join_labels
from imgcls.predict.prediction import Prediction

# Values of `--format`.
OUTPUT_FORMATS = ("jsonl", "csv", "labelstudio", "darwin")


def write_jsonl(out: TextIO, predictions: Iterable[Prediction]) -> None:
    """Writes one JSON object per line: `path`, `labels`, and `predictions` with scores.

    A window of a video also has `start` and `end`, in seconds.
    """
    for prediction in predictions:
        scores = [{"class": name, "score": score} for name, score in prediction.scores.items()]
        line = {"path": prediction.path, **_times(prediction)}
        line |= {"labels": prediction.labels, "predictions": scores}
        print(json.dumps(line), file=out, flush=True)


def write_csv(out: TextIO, predictions: Iterable[Prediction], separator: str) -> None:
    """Writes CSV with the columns path, labels, class_1, score_1, class_2, ...

    Windows of a video have the columns start and end after the path.

    All text is quoted, so that CSV readers do not interpret a name as a number.

    Args:
      out: output file.
      predictions: predictions of image files.
      separator: separator of the labels of an image, see `join_labels`.
    """
    table = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    for number, prediction in enumerate(predictions):
        pairs = prediction.scores.items()
        if number == 0:
            columns = [f"{c}_{n}" for n in range(1, len(pairs) + 1) for c in ("class", "score")]
            table.writerow(["path", *_times(prediction), "labels", *columns])
        values = [value for pair in pairs for value in pair]
        labels = join_labels(prediction.labels, separator)
        table.writerow([prediction.path, *_times(prediction).values(), labels, *values])


def _times(prediction: Prediction) -> dict[str, float]:
    """`start` and `end` of a window of a video, to the millisecond; empty for other inputs."""
    if prediction.start is None or prediction.end is None:
        return {}
    return {"start": round(prediction.start, 3), "end": round(prediction.end, 3)}


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
    """Writes a JSON list of tasks for Label Studio, pre-annotated with choices.

    For the format, see https://labelstud.io/guide/predictions. The score of a task, by which Label
    Studio can sort tasks, is the probability of the most probable class.

    Args:
      out: output file.
      predictions: predictions of files under `root`.
      root: folder that the paths in the tasks are relative to.
      model_version: model version shown with each prediction.
      from_name, to_name: names of the `Choices` and `Image` tags in the labeling configuration.
      image_prefix: prefix that makes the percent-encoded path of an image a URL.
    """
    separator = "[\n"
    for prediction in predictions:
        choices = {
            "from_name": from_name,
            "to_name": to_name,
            "type": "choices",
            "value": {"choices": prediction.labels},
        }
        annotation = {
            "model_version": model_version,
            "score": float(prediction.probabilities.max()),
            "result": [choices] if prediction.labels else [],
        }
        url = image_prefix + quote(os.fsencode(prediction.relative_path(root)))
        out.write(separator + json.dumps({"data": {"image": url}, "predictions": [annotation]}))
        separator = ",\n"
    out.write("[]\n" if separator == "[\n" else "\n]\n")


def write_darwin(folder: str, predictions: Iterable[Prediction], root: str) -> None:
    """Writes a Darwin JSON 2.0 file for each image, `FOLDER/RELATIVE/PATH.json`: one tag per label.

    For the format, see https://docs.v7labs.com/reference/darwin-json.

    Args:
      folder: output folder.
      predictions: predictions of files under `root`.
      root: folder that is `/` in the dataset.

    Raises:
      ConfigError: a file can't be written.
    """
    for prediction in predictions:
        file = prediction.relative_path(root)
        path, name = os.path.split(file)
        item = {"name": name, "path": f"/{path}"}
        annotations = [
            {"id": str(uuid.uuid4()), "name": label, "tag": {}} for label in prediction.labels
        ]
        content = {"version": "2.0", "item": item, "annotations": annotations}
        write_file(folder, f"{file}.json", (json.dumps(content, indent=2) + "\n").encode())


def write_file(folder: str, name: str, data: bytes) -> None:
    """Writes `FOLDER/NAME` atomically, and creates missing folders.

    Raises:
      ConfigError: the file can't be written.
    """
    path = pathlib.Path(folder, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, data)
    except OSError as e:
        raise ConfigError(f"{path}: can't be written: {errors.one_line(e)}") from e
