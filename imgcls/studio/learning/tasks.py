"""What the processes of the studio do, by kind: they import JAX, which the server does not."""

import json
import os
import pathlib
import runpy
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from imgcls.core import log
from imgcls.core.errors import DataError, UserError, one_line
from imgcls.core.storage import replace_text

RESULTS = "results.json"
PREDICTIONS = "predictions.npz"
FEATURES = "features.npz"
# Images between two lines of progress.
_PART = 256


def train(task: dict[str, Any], folder: pathlib.Path) -> int | None:
    """Trains; then writes what the model gets right and wrong, and the report.

    Args:
      task: "arguments" of `python -m imgcls.main`, and "version", the directory of the version.
      folder: the workdir.
    """
    code = _run_command("imgcls.main", [*task["arguments"], f"--workdir={folder}"])
    if code:
        return code
    log.info("evaluating, and writing the report")
    try:
        write_results(folder, task["version"])
        _report(folder)
    except UserError as e:
        # The model is trained nevertheless.
        log.warning(f"no report: {one_line(e)}")
    return 0


def _run_command(module: str, arguments: list[str]) -> int:
    """Runs `python -m MODULE ARGUMENTS` in this process; returns its exit code."""
    before = sys.argv
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    finally:
        sys.argv = before
    return 0


def write_results(folder: pathlib.Path, version: str) -> None:
    """Writes `results.json`: the decision for each image of the evaluated split.

    It is `{"split", "class_names", "multi_label", "metrics", "rows"}`; a row is `[path below the
    version's directory, classes as tagged, classes as predicted, probability]`, classes by number.
    The probability is that of the predicted class, or of several the least certain decision.
    """
    from imgcls.report.results import read_results
    from imgcls.runs.load import find_checkpoint
    from imgcls.runs.trained import check_classifies, load_trained

    checkpoint = find_checkpoint(folder)
    trained = load_trained(checkpoint)
    check_classifies(trained, str(folder))
    results = read_results(trained, checkpoint, None, None)
    found = results.predictions
    rows = []
    for i, name in enumerate(found.names):
        tagged, predicted = found.labels[i], results.decisions[i]
        if found.multi_label:
            decided = np.where(predicted > 0, found.scores[i], 1 - found.scores[i])
            pair = [np.flatnonzero(x > 0).tolist() for x in (tagged, predicted)]
            certainty = float(decided.min())
        else:
            pair = [[int(tagged)], [int(predicted)]]
            certainty = float(found.scores[i][int(predicted)])
        rows.append([os.path.relpath(name, version), *pair, round(certainty, 5)])
    content = {
        "split": results.split,
        "class_names": list(found.class_names),
        "multi_label": found.multi_label,
        "metrics": {k: float(v) for k, v in results.summary.metrics.items()},
        "rows": rows,
    }
    replace_text(folder / RESULTS, json.dumps(content))


def _report(folder: pathlib.Path) -> None:
    from imgcls.report.__main__ import main

    main([f"--workdir={folder}"])


def suggest(task: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes the probabilities of a model for images as `predictions.npz`.

    It has `ids` int `[N]`, `probabilities` float32 `[N, K]` and `class_names`; images that the
    model does not take, or that can't be read, are left out.

    Args:
      task: "checkpoint", and "images": `[id, path, media]` of each.
      folder: where it is written.
    """
    from imgcls.predict.run import Run

    run = Run(task["checkpoint"])
    chosen = _of_media(run, task["images"])
    ids, rows = [], []
    stream = run.stream([path for _, path in chosen], on_error="skip") if chosen else ()
    for number, (image, prediction) in enumerate(zip((i for i, _ in chosen), stream, strict=True)):
        _progress(number, len(chosen))
        if prediction is not None:
            ids.append(image)
            rows.append(prediction.probabilities)
    names = list(run.class_names)
    probabilities = np.array(rows, np.float32).reshape(len(rows), len(names))
    _save(folder / PREDICTIONS, ids=ids, probabilities=probabilities, class_names=names)
    left_out = len(task["images"]) - len(ids)
    log.info(f"predicted {len(ids):,} images" + (f", left out {left_out:,}" if left_out else ""))


def features(task: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes features of images as `features.npz`: `ids` int `[N]`, `features` float32 `[N, D]`.

    Args:
      task: "checkpoint", or None for colors, layout and edges of small pictures (as in the audit),
        and "images": `[id, path, media]` of each.
      folder: where it is written.
    """
    if task["checkpoint"] is None:
        ids, values = _plain_features(task["images"])
    else:
        ids, values = _features_of(task["checkpoint"], task["images"])
    # Of one length, so that the nearest are also those with the smallest angle.
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    _save(folder / FEATURES, ids=ids, features=values.astype(np.float32))
    log.info(f"features of {len(ids):,} images")


def _features_of(checkpoint: str, images: list) -> tuple[list[int], np.ndarray]:
    from imgcls.predict.run import Run

    run = Run(checkpoint)
    chosen = _of_media(run, images)
    ids, parts = [], []
    for start in range(0, len(chosen), _PART):
        part = chosen[start : start + _PART]
        _progress(start, len(chosen))
        try:
            parts.append(run.features([path for _, path in part]))
            ids += [image for image, _ in part]
        except DataError:  # One of them can't be read: each by itself.
            for image, path in part:
                try:
                    parts.append(run.features(path))
                    ids.append(image)
                except DataError as e:
                    log.warning(one_line(e))
    return ids, np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def _plain_features(images: list) -> tuple[list[int], np.ndarray]:
    from imgcls.audit.features import handmade

    ids, thumbs = [], []
    for number, (image, path, media) in enumerate(images):
        _progress(number, len(images))
        try:
            thumbs.append(small_picture(path, media))
            ids.append(image)
        except (DataError, OSError, ValueError) as e:
            log.warning(f"{path}: {one_line(e)}")
    if not thumbs:
        return [], np.zeros((0, 1), np.float32)
    return ids, np.asarray(handmade(np.stack(thumbs), 0), np.float32)


def small_picture(path: str, media: str) -> np.ndarray:
    """An image, the middle slices of a volume, or a frame of a video: uint8 `[32, 32, 3]`."""
    import cv2

    from imgcls.audit import volumes
    from imgcls.audit.reading import THUMB, visible
    from imgcls.data.decode.image import decode_image
    from imgcls.data.files import read_example

    if media == "volume":
        return volumes.measure(read_example(path), path)["thumbs"]
    if media == "video":
        from imgcls.studio.pictures.media import Opened

        with open(path, "rb") as file, Opened(file, pathlib.Path(path), path) as opened:
            pixels = opened.poster().pixels
    else:
        pixels = visible(decode_image(read_example(path), path))
    return cv2.resize(pixels, (THUMB, THUMB), interpolation=cv2.INTER_AREA)


def audit(task: dict[str, Any], folder: pathlib.Path) -> int:
    """Runs the audit; findings are no failure.

    Args:
      task: "arguments" of `python -m imgcls.audit`.
      folder: where `audit.html` and `audit.json` are written.
    """
    from imgcls.audit.__main__ import main

    return 0 if main([*task["arguments"], f"--out={folder}"]) in (0, 1) else 1


def _of_media(run: Any, images: Iterable[list]) -> list[tuple[int, str]]:
    """(id, path) of the images that a model takes."""
    is_volume = len(run.info.image_shape) == 4 and not run.takes_videos
    media = "video" if run.takes_videos else "volume" if is_volume else "image"
    return [(image, path) for image, path, kind in images if kind == media]


def _progress(done: int, total: int) -> None:
    if done % _PART == 0:
        log.info(f"step {done}/{total}")


def _save(path: pathlib.Path, **arrays: Any) -> None:
    """Writes arrays, whole or not at all."""
    partial = path.with_name(f".{path.name}")
    with open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()})
    os.replace(partial, path)


TASKS: dict[str, Callable[[dict[str, Any], pathlib.Path], int | None]] = {
    "train": train,
    "suggest": suggest,
    "features": features,
    "audit": audit,
}
