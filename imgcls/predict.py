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
from collections.abc import Iterator

import jax
import numpy as np

from imgcls import cli, sharding
from imgcls.checkpoint import load_eval_variables, load_meta
from imgcls.data import create_eval_loader
from imgcls.data.folder import EXTENSIONS
from imgcls.errors import ConfigError
from imgcls.objectives import create_objective
from imgcls.step import make_eval_fn


class FilesSource:
    """Image files without labels, as a source."""

    multi_label = False

    def __init__(self, files: list[str], class_names: tuple[str, ...]):
        self._files, self.class_names = files, class_names

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict:
        return {"image": pathlib.Path(self._files[index]).read_bytes(), "label": 0}

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


def predict(checkpoint: str, files: list[str], batch_size: int) -> Iterator[tuple[str, dict]]:
    """Scores of each file by class name, in order; None for a file that can't be read.

    Args:
      checkpoint: a workdir or a checkpoint's directory.
      files: image files.
      batch_size: over all devices, rounded up to divide by them.
    """
    config, info = load_meta(checkpoint)
    for axis in ("fsdp", "model"):
        config.mesh[axis] = 1
    config.mesh.data = -1
    config.data.on_error = "skip"
    mesh = sharding.create_mesh(config)
    objective = create_objective(config, info)
    if not hasattr(objective, "logits"):
        raise ConfigError(f"{checkpoint}: was trained as {config.objective.name}, without classes")
    variables = load_eval_variables(checkpoint, objective, info, mesh)
    params, model_state = variables.get("ema_", variables[""])
    scores_of = make_eval_fn(
        lambda *args: objective.scores(objective.logits(*args)), config, mesh
    )
    shards = sharding.num_shards(mesh)
    batch_size = -(-min(batch_size, len(files)) // shards) * shards
    loader = create_eval_loader(config, FilesSource(files, info.class_names), mesh, batch_size)
    for batch in loader:
        scores = np.asarray(scores_of(params, model_state, batch))
        rows = jax.device_get((batch["index"], batch["mask"]))
        for index, mask, row in zip(*rows, scores, strict=True):
            if index >= 0:
                named = dict(zip(info.class_names, row.tolist(), strict=True))
                yield files[index], named if mask else None
    loader.close()


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
    unreadable = 0
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(open(args.out, "w", newline="")) if args.out else sys.stdout
        table = csv.writer(out)
        for row, (file, scores) in enumerate(predict(args.checkpoint, files, args.batch_size)):
            if scores is None:
                unreadable += 1
                continue
            best = sorted(scores.items(), key=lambda item: -item[1])[: args.top_k]
            if args.format == "csv":
                if row == unreadable:
                    numbers = range(1, len(best) + 1)
                    table.writerow(["path", *(f"{c}_{n}" for n in numbers for c in ("class", "score"))])
                table.writerow([file, *(value for pair in best for value in pair)])
            else:
                predictions = [{"class": name, "score": score} for name, score in best]
                print(json.dumps({"path": file, "predictions": predictions}), file=out)
    if unreadable:
        print(f"{unreadable} of {len(files)} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def _files_in(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    found = (str(p) for p in pathlib.Path(path).rglob("*") if p.suffix.lower() in EXTENSIONS)
    return sorted(found)


if __name__ == "__main__":
    cli.run(main)
