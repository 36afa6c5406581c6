"""Classify images: `python -m imgcls.predict --checkpoint=/tmp/digits PATHS...`.

PATHS are files, folders (searched recursively) or globs. The checkpoint contains the class names,
the preprocessing and the calibration; averaged (EMA) parameters are used if it has them. Writes one
line per image, as JSON or CSV, or files for Label Studio or V7 Darwin. An image that can't be read
is reported and left out, and the exit code is then 1.
"""

import argparse
import contextlib
import functools
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from PIL import Image
from tqdm import tqdm

from imgcls.core import cli, errors, log
from imgcls.core.errors import ConfigError, DataError
from imgcls.data.files import read_example
from imgcls.predict import formats
from imgcls.predict.heat_file import encode_heat
from imgcls.predict.images import common_folder, find_files
from imgcls.predict.prediction import Prediction
from imgcls.predict.run import BATCH_SIZE, TOP_K, Run

LOCAL_FILES = "/data/local-files/?d="


def main(argv: list[str] | None = None) -> int:
    """Predicts the files that the flags name, and writes the predictions; returns the exit code."""
    args = _parse(argv)
    threshold = _parse_threshold(args.threshold)
    run = Run(args.checkpoint)
    files = find_files(args.paths, run.takes_videos)
    options = dict(top_k=args.top_k, flip=args.flip, threshold=threshold)
    unreadable = []
    root = common_folder(args.paths)
    if args.every is None:
        options |= dict(on_error="skip", explain=args.explain is not None)
        predictions = run.stream(files, batch_size=args.batch_size, **options)
        readable = _readable(_with_progress(predictions, len(files), args.out), files, unreadable)
    else:
        windows = _windows(run, files, unreadable, args.every, args.batch_size, options)
        readable = _with_progress(windows, None, args.out)
    if args.explain is not None:
        readable = _save_overlays(readable, args.explain, root, run)
    _writer(args, run, root)(readable)
    if unreadable:
        print(f"{len(unreadable)} of {len(files)} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def _windows(
    run: Run, files: list[str], unreadable: list[str], every: float, batch_size: int, options: dict
) -> Iterator[Prediction]:
    """Yields the predictions of the windows of each video; appends others to `unreadable`."""
    for file in files:
        try:
            yield from run.windows(file, every, batch_size=batch_size, **options)
        except DataError as e:
            log.warning(f"skipped an unreadable record: {e}")
            unreadable.append(file)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.create_parser("predict", __doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help=cli.CHECKPOINT_HELP)
    add("--format", choices=formats.OUTPUT_FORMATS, default="jsonl", help="output format")
    add("--out", metavar="FILE", help="output file (default: standard output); darwin: a folder")
    add("--top_k", type=int, default=TOP_K, help="number of classes whose scores are written")
    add("--batch_size", type=int, default=BATCH_SIZE, help="images per batch, over all devices")
    add("--flip", action="store_true", help="average over each image and its mirror image")
    add(
        "--threshold",
        metavar="P",
        help="minimum probability of a predicted class: 0.5, or by class '{\"cat\": 0.3}' "
        "(default: the calibrated thresholds; 0.5 for multi-label; none for one label)",
    )
    add(
        "--every",
        metavar="SECONDS",
        type=_seconds,
        help="one prediction for each part of a video of this length, such as 2s",
    )
    add("--explain", metavar="DIR", help="folder for heat maps of the most probable classes")
    add("--from_name", default="choice", help="labelstudio: name of the Choices tag")
    add("--to_name", default="image", help="labelstudio: name of the Image tag")
    add("--image_prefix", default=LOCAL_FILES, help="labelstudio: prefix of the relative paths")
    add("paths", nargs="+", metavar="PATH")
    args = parser.parse_args(argv)
    if args.top_k < 1 or args.batch_size < 1:
        raise ConfigError("--top_k and --batch_size must be 1 or more")
    if args.every is not None and (args.explain or args.format not in ("jsonl", "csv")):
        raise ConfigError("--every: goes with --format=jsonl or csv, and without --explain")
    if args.format == "darwin" and args.out is None:
        raise ConfigError("--format=darwin: writes one file per image; add a folder, --out=DIR")
    if args.out is None:
        cli.require_output()
    return args


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"--every={text}: write seconds, such as 2s or 0.5s")
    return seconds


def _parse_threshold(text: str | None) -> float | dict | None:
    try:
        return None if text is None else json.loads(text)
    except ValueError as e:
        raise ConfigError(
            f"--threshold={text}: write a number such as 0.5, or '{{\"cat\": 0.3}}'"
        ) from e


def _with_progress(predictions: Iterable, total: int | None, out: str | None) -> Iterable:
    """Adds a progress bar, unless the predictions themselves are printed on the terminal."""
    hidden = None if out is not None or not sys.stdout.isatty() else True
    return tqdm(predictions, total=total, unit="img", disable=hidden, dynamic_ncols=True)


def _readable(
    predictions: Iterable[Prediction | None], files: list[str], unreadable: list[str]
) -> Iterator[Prediction]:
    """Yields the predictions of readable files; appends the other files to `unreadable`."""
    for file, prediction in zip(files, predictions, strict=True):
        if prediction is None:
            unreadable.append(file)
        else:
            yield prediction


def _save_overlays(
    predictions: Iterable[Prediction], folder: str, root: str, run: Run
) -> Iterator[Prediction]:
    """Yields the predictions, and saves the heat map of each as `FOLDER/RELATIVE/PATH.png`.

    That of a volume is also saved as NIfTI, see `heat_file`.
    """
    for prediction in predictions:
        if prediction.overlay is not None:
            encoded = io.BytesIO()
            Image.fromarray(prediction.overlay).save(encoded, "png")
            name = prediction.relative_path(root) + ".png"
            formats.write_file(folder, name, encoded.getvalue())
        heat, is_video = prediction.heat, run.takes_videos
        if heat is not None and heat.ndim == 3 and prediction.path and not is_video:
            name = prediction.relative_path(root) + ".heat.nii.gz"
            scan = read_example(prediction.path)
            encoded = encode_heat(heat, scan, prediction.path, run.config)
            formats.write_file(folder, name, encoded)
        yield prediction


def _writer(
    args: argparse.Namespace, run: Run, root: str
) -> Callable[[Iterable[Prediction]], None]:
    if args.format == "darwin":
        return lambda predictions: formats.write_darwin(args.out, predictions, root)
    write = {
        "jsonl": formats.write_jsonl,
        "csv": functools.partial(formats.write_csv, separator=run.config.data.separator),
        "labelstudio": functools.partial(
            formats.write_labelstudio,
            root=root,
            model_version=run.name,
            from_name=args.from_name,
            to_name=args.to_name,
            image_prefix=args.image_prefix,
        ),
    }[args.format]

    def write_out(predictions: Iterable[Prediction]) -> None:
        with _open_output(args.out) as out:
            write(out, predictions)
            out.flush()

    return write_out


@contextlib.contextmanager
def _open_output(path: str | None) -> Iterator[TextIO]:
    """Opens standard output, or a file that is replaced only when it is complete."""
    if path is None:
        yield sys.stdout
        return
    # A pipe or a device can't be replaced, and a link is kept.
    target = os.path.realpath(path)
    replaceable = os.path.isfile(target) or not os.path.exists(target)
    partial = target + ".partial" if replaceable else target
    try:
        with open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as out:
            yield out
        if replaceable:
            os.replace(partial, target)
    except OSError as e:
        raise ConfigError(f"--out={path}: can't be written: {errors.one_line(e)}") from e
    finally:
        if replaceable:
            with contextlib.suppress(OSError):
                os.remove(partial)


if __name__ == "__main__":
    cli.run(main)
