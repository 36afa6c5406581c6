"""Classify pictures: `python -m imgcls.predict --checkpoint=/tmp/digits PATHS...`.

PATHS are files, folders (searched deeply) or globs. The checkpoint carries the class names and the
preprocessing, so nothing else is needed; where it has averaged (EMA) parameters, those are used.
One line per picture, as JSON or CSV; a picture that can't be read is reported and left out, and the
exit code is 1 at the end.
"""

import argparse
import contextlib
import csv
import glob
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO

import jax
import numpy as np

from imgcls import cli, sharding
from imgcls.checkpoint import check_classifies, load_trained
from imgcls.data import create_eval_loader
from imgcls.data.folder import EXTENSIONS
from imgcls.errors import ConfigError, DataError
from imgcls.step import make_eval_fn


class FilesSource:
    """Image files without labels, as a source."""

    multi_label = False

    def __init__(self, files: list[str], class_names: tuple[str, ...]):
        self._files, self.class_names = files, class_names

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict:
        try:
            data = pathlib.Path(self._files[index]).read_bytes()
        except OSError as e:
            raise DataError(f"{self._files[index]}: can't be read: {cli.one_line(e)}") from e
        return {"image": data, "label": 0}

    def name(self, index: int) -> str:
        return self._files[index]


def find_files(paths: list[str]) -> list[str]:
    """The image files that paths, folders and globs name, each once, in order.

    Raises:
      ConfigError: a path that names nothing.
    """
    found: dict[str, None] = {}
    for path in paths:
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        files = [f for match in matches for f in _files_in(match)]
        if not files:
            raise ConfigError(f"{path}: no image there; give files, folders or globs")
        found |= dict.fromkeys(files)
    return list(found)


class Predictor:
    """A checkpoint that turns files into scores.

    Args:
      checkpoint: a workdir or a checkpoint's directory.

    Raises:
      ConfigError: no checkpoint there, or one of an objective without classes.
    """

    def __init__(self, checkpoint: str):
        trained = load_trained(checkpoint)
        check_classifies(trained, checkpoint)
        objective = trained.objective
        self._config, self._mesh = trained.config, trained.mesh
        self._config.data.on_error = "skip"
        self._variables = (trained.params, trained.model_state)
        self._scores = make_eval_fn(
            lambda *args: objective.scores(objective.logits(*args)), self._config, self._mesh
        )
        self.class_names = trained.info.class_names

    def predict(self, files: list[str], batch_size: int) -> Iterator[tuple[str, np.ndarray | None]]:
        """Each file with its scores `[K]`, in order; None for a file that can't be read.

        Args:
          files: image files.
          batch_size: over all devices, rounded up to divide by them.
        """
        shards = sharding.num_shards(self._mesh)
        batch_size = -(-min(batch_size, len(files)) // shards) * shards
        source = FilesSource(files, self.class_names)
        loader = create_eval_loader(self._config, source, self._mesh, batch_size)
        for batch in loader:
            scores = np.asarray(self._scores(*self._variables, batch))
            index, mask = jax.device_get((batch["index"], batch["mask"]))
            for i, readable, row in zip(index, mask, scores, strict=True):
                if i >= 0:
                    yield files[i], row if readable else None
        loader.close()


def write_jsonl(out: TextIO, rows: Iterable[tuple[str, list[tuple[str, float]]]]) -> None:
    """One JSON object a line: the path and the classes with their scores, the best first."""
    for path, best in rows:
        predictions = [{"class": name, "score": score} for name, score in best]
        print(json.dumps({"path": path, "predictions": predictions}), file=out, flush=True)


def write_csv(out: TextIO, rows: Iterable[tuple[str, list[tuple[str, float]]]]) -> None:
    """A table with the columns path, class_1, score_1, class_2, ..."""
    table = csv.writer(out)
    for number, (path, best) in enumerate(rows):
        if number == 0:
            columns = [f"{c}_{n}" for n in range(1, len(best) + 1) for c in ("class", "score")]
            table.writerow(["path", *columns])
        table.writerow([path, *(value for pair in best for value in pair)])


def main(argv: list[str] | None = None) -> int:
    """Flags -> files -> lines."""
    parser = argparse.ArgumentParser(prog="python -m imgcls.predict", description=__doc__)
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="a workdir")
    parser.add_argument("--top_k", type=int, default=5, help="classes per picture")
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
    parser.add_argument("--out", metavar="FILE", help="in place of the terminal")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("paths", nargs="+", metavar="PATH")
    args = parser.parse_args(argv)
    if args.top_k < 1 or args.batch_size < 1:
        raise ConfigError("--top_k and --batch_size must be 1 or more")
    files = find_files(args.paths)
    predictor = Predictor(args.checkpoint)
    unreadable = []

    def rows():
        for file, scores in predictor.predict(files, args.batch_size):
            if scores is None:
                unreadable.append(file)
                continue
            best = np.argsort(-scores, kind="stable")[: args.top_k]
            yield file, [(predictor.class_names[i], float(scores[i])) for i in best]

    write = {"jsonl": write_jsonl, "csv": write_csv}[args.format]
    with _open_output(args.out) as out:
        write(out, rows())
    if unreadable:
        print(f"{len(unreadable)} of {len(files)} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def _open_output(path: str | None):
    if path is None:
        return contextlib.nullcontext(sys.stdout)
    try:
        return open(path, "w", newline="")
    except OSError as e:
        raise ConfigError(f"--out={path}: can't be written: {cli.one_line(e)}") from e


def _files_in(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    found = (p for p in pathlib.Path(path).rglob("*") if p.suffix.lower() in EXTENSIONS)
    return sorted(str(p) for p in found if not p.is_dir())


if __name__ == "__main__":
    cli.run(main)
