"""Classify pictures: `python -m imgcls.predict --checkpoint=/tmp/digits PATHS...`.

PATHS are files, folders (searched deeply) or globs. The checkpoint carries the class names, the
preprocessing and the calibration, so nothing else is needed; where it has averaged (EMA)
parameters, those are used. One line per picture, as JSON or CSV, or a file for Label Studio or V7
Darwin; a picture that can't be read is reported and left out, and the exit code is 1 at the end.
"""

import argparse
import contextlib
import functools
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from PIL import Image
from tqdm import tqdm

from imgcls.core import cli, errors
from imgcls.core.errors import ConfigError
from imgcls.predict import formats
from imgcls.predict.images import common_folder, find_files
from imgcls.predict.prediction import Prediction
from imgcls.predict.run import BATCH_SIZE, TOP_K, Run

LOCAL_FILES = "/data/local-files/?d="


def main(argv: list[str] | None = None) -> int:
    """Flags -> files -> predictions -> lines."""
    args = _parse(argv)
    threshold = _parse_threshold(args.threshold)
    files = find_files(args.paths)
    run = Run(args.checkpoint)
    predictions = run.stream(
        files,
        batch_size=args.batch_size,
        top_k=args.top_k,
        flip=args.flip,
        threshold=threshold,
        on_error="skip",
        explain=args.explain is not None,
    )
    unreadable = []
    root = common_folder(args.paths)
    readable = _readable(_with_bar(predictions, len(files), args.out), files, unreadable)
    if args.explain is not None:
        readable = _save_overlays(readable, args.explain, root)
    _writer(args, run, root)(readable)
    if unreadable:
        print(f"{len(unreadable)} of {len(files)} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.create_parser("predict", __doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="a workdir, or one checkpoint of it")
    add("--format", choices=formats.OUTPUT_FORMATS, default="jsonl")
    add("--out", metavar="FILE", help="in place of the terminal; for darwin a folder")
    add("--top_k", type=int, default=TOP_K, help="classes per picture whose scores are told")
    add("--batch_size", type=int, default=BATCH_SIZE, help="pictures at once, over all devices")
    add("--flip", action="store_true", help="mean of each picture and its mirror image")
    add(
        "--threshold",
        metavar="P",
        help="say a class from this probability on: 0.5, or by class '{\"cat\": 0.3}'; by default "
        "the calibrated ones, or 0.5 if multi-label, or always the best class",
    )
    add("--explain", metavar="DIR", help="save a heat map of each picture's best class there")
    add("--from_name", default="choice", help="labelstudio: name of the Choices")
    add("--to_name", default="image", help="labelstudio: name of the Image")
    add("--image_prefix", default=LOCAL_FILES, help="labelstudio: in front of each relative path")
    add("paths", nargs="+", metavar="PATH")
    args = parser.parse_args(argv)
    if args.top_k < 1 or args.batch_size < 1:
        raise ConfigError("--top_k and --batch_size must be 1 or more")
    if args.format == "darwin" and args.out is None:
        raise ConfigError("--format=darwin: writes a file per picture; name a folder by --out=DIR")
    return args


def _parse_threshold(text: str | None) -> float | dict | None:
    try:
        return None if text is None else json.loads(text)
    except ValueError as e:
        raise ConfigError(
            f"--threshold={text}: write a number such as 0.5, or '{{\"cat\": 0.3}}'"
        ) from e


def _with_bar(answers: Iterable, total: int, out: str | None) -> Iterable:
    """The same with a progress bar, on a terminal that the answers themselves don't go to."""
    hidden = None if out is not None or not sys.stdout.isatty() else True
    return tqdm(answers, total=total, unit="img", disable=hidden, dynamic_ncols=True)


def _readable(
    answers: Iterable[Prediction | None], files: list[str], unreadable: list[str]
) -> Iterator[Prediction]:
    """Those of the files that could be read; collects the others' paths in `unreadable`."""
    for file, answer in zip(files, answers, strict=True):
        if answer is None:
            unreadable.append(file)
        else:
            yield answer


def _save_overlays(
    predictions: Iterable[Prediction], folder: str, root: str
) -> Iterator[Prediction]:
    """The same, each one's heat map saved as `FOLDER/RELATIVE/PATH.png`."""
    for prediction in predictions:
        if prediction.overlay is not None:
            encoded = io.BytesIO()
            Image.fromarray(prediction.overlay).save(encoded, "png")
            name = prediction.relative_path(root) + ".png"
            formats.write_beside(folder, name, encoded.getvalue())
        yield prediction


def _writer(
    args: argparse.Namespace, run: Run, root: str
) -> Callable[[Iterable[Prediction]], None]:
    if args.format == "darwin":
        return lambda found: formats.write_darwin(args.out, found, root)
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
    """Standard output, or a file that takes its place only when it is whole."""
    if path is None:
        yield sys.stdout
        return
    # A pipe or a device can't be replaced, and a link stays one.
    target = os.path.realpath(path)
    replaced = os.path.isfile(target) or not os.path.exists(target)
    written = target + ".partial" if replaced else target
    try:
        with open(written, "w", newline="", encoding="utf-8", errors="surrogateescape") as out:
            yield out
        if replaced:
            os.replace(written, target)
    except OSError as e:
        raise ConfigError(f"--out={path}: can't be written: {errors.one_line(e)}") from e
    finally:
        if replaced:
            with contextlib.suppress(OSError):
                os.remove(written)


if __name__ == "__main__":
    cli.run(main)
