"""Write a report: `python -m imgcls.report --workdir=/tmp/digits`.

One HTML file, `report/report.html` of the workdir, that opens from disk without a network: metrics
with intervals, classes, confusion, curves, calibration, mistakes and doubts with heat maps of where
the model looked. Temperature (and thresholds, for multi-label) are fitted on the validation split,
where the data has one, and kept in the checkpoint for `predict`.

Of other data of the same classes: `--config.data.source=folder:/new/pictures`.
"""

import argparse
import contextlib
import datetime
import math
import pathlib

import jax
import numpy as np

from imgcls.core import cli, errors
from imgcls.core import config as config_lib
from imgcls.core.errors import ConfigError
from imgcls.core.storage import as_path, replace_bytes
from imgcls.data.sources.splits import stratified_slice
from imgcls.data.sources.subset import Subset
from imgcls.evaluate.calibration import PLAIN
from imgcls.evaluate.evaluators.embedding_map import project
from imgcls.evaluate.features import FeatureReader
from imgcls.evaluate.summary import precision_recall, reliability, summarize
from imgcls.report import charts, gallery, html, tables
from imgcls.report.results import Results, class_counts, read_results
from imgcls.runs.load import latest_checkpoint, place_of
from imgcls.runs.trained import Trained, check_classifies, load_trained

# Dots on the map of features, and the fewest that make one.
DOTS = (10, 1000)


def main(argv: list[str] | None = None) -> int:
    """Flags -> checkpoint -> page."""
    args, overrides = _parse(argv)
    trained, checkpoint = load_trained(args.workdir), latest_checkpoint(args.workdir)
    check_classifies(trained, args.workdir)
    settings = config_lib.to_json(trained.config)
    _override(trained, overrides)
    trained.config.batch_size = args.batch_size or trained.config.batch_size
    workdir, _ = place_of(checkpoint)
    out = as_path(args.out or workdir / "report" / "report.html")
    with _writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    results = read_results(trained, str(checkpoint), args.split, args.calibrate_on)
    if chosen := results.calibration.split:
        print(f"calibrated on {chosen}: temperature {results.calibration.temperature:.4g}")
    values = _values(results, workdir, args.examples)
    page = html.render("report.html", step=checkpoint.name, settings=settings, **values)
    with _writing(out):
        # File names are bytes, and need not be text.
        replace_bytes(out, page.encode(errors="replace"))
    print(out)
    return 0


def _values(results: Results, workdir: pathlib.Path, examples: int) -> dict:
    """What the template shows."""
    config, info = results.trained.config, results.trained.info
    history, ended = tables.read_history(workdir)
    groups = gallery.show(results, gallery.choose(results, examples))
    counts = class_counts(config, results)
    return {
        "results": results,
        "run": workdir.name,
        "model": config.model.name,
        "parameters": sum(math.prod(x.shape) for x in jax.tree.leaves(results.trained.params)),
        "info": info,
        "ended": ended and datetime.datetime.fromtimestamp(ended, datetime.UTC),
        "data": config.data,
        "objective": config.objective.name,
        "splits": tables.split_rows(results, counts),
        "counts": counts if len(results.class_names) <= tables.MATRIX else {},
        "matrix": tables.MATRIX,
        "named": charts.NAMED,
        "history": {what: charts.curves(found, what) for what, found in history.items()},
        "metrics": tables.metric_rows(results),
        "classes": tables.class_rows(results),
        "confusion": tables.confusion_rows(results),
        "pairs": tables.confused_pairs(results),
        "precision_recall": _precision_recall(results),
        "reliability": _reliability(results),
        "groups": groups,
        "heat_maps": any(picture["heat"] for group in groups for picture in group["pictures"]),
        "embedding": _embedding(results),
    }


def _precision_recall(results: Results) -> str | None:
    """The curves of all classes or, of many, of those with the lowest average precision."""
    found = precision_recall(results.predictions)
    rows = {row["name"]: row["average_precision"] for row in results.summary.classes}
    if len(found) > charts.NAMED:
        worst = sorted(found, key=lambda name: rows[name])[: charts.NAMED]
        found = {name: found[name] for name in worst}
    return charts.precision_recall(found) if found else None


def _reliability(results: Results) -> list[dict]:
    """`{title, ece, chart}` before and, where there is one, after the calibration."""
    before = summarize(results.plain, PLAIN, bootstrap=0).metrics["ece"]
    kinds = [("As trained", results.plain, before)]
    if results.calibration.temperature != 1:
        title = f"At temperature {results.calibration.temperature:.3f}"
        kinds.append((title, results.predictions, results.summary.metrics["ece"]))
    return [
        {
            "title": title,
            "ece": ece,
            "chart": charts.reliability(reliability(predictions), results.multi_label),
        }
        for title, predictions, ece in kinds
    ]


def _embedding(results: Results) -> str | None:
    """The map of features by t-SNE; a dot of several labels has the colour of the rarest."""
    labels, trained, config = results.predictions.labels, results.trained, results.trained.config
    rarest = labels
    if results.multi_label:
        # Those without a label are left out.
        frequency = np.where(labels > 0, labels.sum(0), np.inf)
        rarest = np.where(labels.any(1), frequency.argmin(1), -1)
    kept = np.flatnonzero(rarest >= 0)
    if len(kept) < DOTS[0]:
        return None
    chosen = kept[stratified_slice(rarest[kept], "", str(DOTS[1]), config.data.split_seed)]
    reader = FeatureReader(config, trained.objective, trained.mesh, trained.info, "backbone", None)
    source = Subset(results.source, results.predictions.index[chosen])
    variables = {"": (trained.params, trained.model_state)}
    features = reader.read(variables, source).values[""]
    points = project(features, "tsne", config.data.split_seed)
    return charts.embedding(points, rarest[chosen], results.class_names)


def _parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = cli.create_parser("report", __doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="or one checkpoint of it")
    parser.add_argument("--split", default="test", help="that is judged (%(default)s)")
    parser.add_argument("--calibrate_on", metavar="SPLIT", help="another split (val, if there)")
    parser.add_argument("--out", metavar="FILE", help="in place of DIR/report/report.html")
    parser.add_argument(
        "--examples", type=int, default=24, metavar="N", help="pictures of each kind (%(default)s)"
    )
    parser.add_argument("--batch_size", type=int, metavar="B", help="in place of the training's")
    args, overrides = parser.parse_known_args(argv)
    for name in ("examples", "batch_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name}={value}: must be 1 or more")
    return args, overrides


def _override(trained: Trained, overrides: list[str]) -> None:
    before = trained.config.copy_and_resolve_references()
    config_lib.override(trained.config, overrides)
    for key in config_lib.changed_keys(before, trained.config):
        if not key.startswith("data."):
            raise ConfigError(
                f"config.{key}: is the checkpoint's own and can't be changed; override keys of "
                "config.data"
            )


@contextlib.contextmanager
def _writing(path: pathlib.Path):
    try:
        yield
    except OSError as e:
        raise ConfigError(f"--out={path}: can't be written: {errors.one_line(e)}") from e


if __name__ == "__main__":
    cli.run(main)
