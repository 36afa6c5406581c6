"""Write a report about a trained model: `python -m imgcls.report --workdir=/tmp/digits`.

The report is one HTML file, `report/report.html` in the workdir, that opens from disk without a
network. It has metrics with intervals, per-class metrics, the confusion matrix, curves,
calibration, and images with heat maps of what the model looked at. A temperature (and thresholds
for multi-label models) is fitted on the validation split, if the data has one, and saved in the
checkpoint for `predict`.

Other data with the same classes, or some of them: `--config.data.source=folder:/new/images`.
"""

import argparse
import contextlib
import dataclasses
import datetime
import html as html_lib
import math
import os
from collections.abc import Callable

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from imgcls.core import cli, errors, log
from imgcls.core import config as config_lib
from imgcls.core.errors import ConfigError
from imgcls.core.storage import as_path, replace_bytes
from imgcls.data.sources.splits import stratified_slice
from imgcls.data.sources.subset import Subset
from imgcls.data.transforms.transform import takes_videos
from imgcls.evaluate.baseline import Baseline
from imgcls.evaluate.curves import precision_recall, reliability
from imgcls.evaluate.evaluators.embedding_map import project
from imgcls.evaluate.features import FeatureReader
from imgcls.evaluate.metrics import measure
from imgcls.report import charts, gallery, html, lengths, tables
from imgcls.report.results import Results, compare, count_by_split, read_results
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import Trained, check_classifies, load_trained

# Smallest and largest number of dots on the map of features.
DOTS = (10, 1000)


@dataclasses.dataclass(frozen=True)
class Report:
    """A report: one HTML file; a notebook shows it.

    Attributes:
      path: the file.
    """

    path: epath.Path

    def _repr_html_(self) -> str:
        page = html_lib.escape(self.path.read_text(), quote=True)
        style = "width:100%;height:720px;border:1px solid #8884;border-radius:6px"
        return f'<iframe sandbox style="{style}" srcdoc="{page}"></iframe>'


def main(argv: list[str] | None = None) -> int:
    """Evaluates the checkpoint and writes the report; returns the exit code."""
    args, overrides = _parse(argv)
    options = vars(args)
    workdir = options.pop("workdir")
    _report(workdir, lambda c: config_lib.override(c, overrides), **options)
    return 0


def report(
    checkpoint: str | os.PathLike,
    *,
    split: str | None = None,
    calibrate_on: str | None = None,
    out: str | os.PathLike | None = None,
    examples: int = 24,
    heat_maps: str | None = None,
    batch_size: int | None = None,
    **overrides,
) -> Report:
    """Writes a report about a trained model, as `python -m imgcls.report` does.

    Args:
      checkpoint: a workdir, or the directory of a checkpoint, see `imgcls.load`.
      split: split to evaluate; None is test, or the validation split without one.
      calibrate_on: split to calibrate on; None is the validation split, unless it is evaluated.
      out: output file; None is `report/report.html` in the workdir.
      examples: number of images of each kind.
      heat_maps: folder for the heat maps of volumes as NIfTI.
      batch_size: batch size; None is that of the config.
      **overrides: keys of `data`, as `**{'data.source': value}`.

    Raises:
      ConfigError: there is no checkpoint, it has no classes, or the file can't be written.
    """
    return _report(
        os.fspath(checkpoint),
        lambda c: config_lib.assign(c, overrides),
        split=split,
        calibrate_on=calibrate_on,
        out=out,
        examples=examples,
        heat_maps=heat_maps,
        batch_size=batch_size,
    )


def _report(
    workdir: str,
    override: Callable[[ConfigDict], ConfigDict],
    *,
    split: str | None,
    calibrate_on: str | None,
    out: str | os.PathLike | None,
    examples: int,
    heat_maps: str | None,
    batch_size: int | None,
) -> Report:
    for name, value in (("examples", examples), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name}={value}: must be 1 or more")
    checkpoint = find_checkpoint(workdir)
    trained = load_trained(checkpoint)
    check_classifies(trained, workdir)
    settings = config_lib.to_json(trained.config)
    _override(trained, override)
    trained.config.batch_size = batch_size or trained.config.batch_size
    file = as_path(out or checkpoint.workdir / "report" / "report.html")
    with _writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    results = read_results(trained, checkpoint, split, calibrate_on)
    if split is None and results.split != "test":
        log.result(f"the data has no test split: {results.split} is reported")
    if used := results.calibration.split:
        log.result(f"calibrated on {used}: {results.calibration}")
    else:
        log.result(f"not calibrated: no split besides {results.split} was held out from training")
    baseline = compare(results, checkpoint.workdir)
    if baseline is not None:
        for name, accuracy in tables.baseline_rows(results, baseline):
            log.result(f"accuracy {accuracy:.4f}: {name}")
    groups = gallery.show(results, gallery.choose(results, examples), heat_maps)
    page = html.render(
        "report.html",
        run=checkpoint.workdir.name,
        step=checkpoint.path.name,
        settings=settings,
        results=results,
        groups=groups,
        is_clip=takes_videos(trained.config.data.eval_transform, "config.data.eval_transform"),
        heat_maps=any(image["heat"] for group in groups for image in group["images"]),
        **_model_values(trained),
        **_data_values(results),
        **_history_values(checkpoint.workdir),
        **_metric_values(results),
        **_baseline_values(results, baseline),
        **_length_values(results),
    )
    with _writing(file):
        # File names are bytes and may not be valid text.
        replace_bytes(file, page.encode(errors="replace"))
    log.result(str(file))
    return Report(file)


def _model_values(trained: Trained) -> dict:
    """Returns the template values about the model and its config."""
    return {
        "model": trained.config.model.name,
        "parameters": sum(math.prod(x.shape) for x in jax.tree.leaves(trained.params)),
        "objective": trained.config.objective.name,
        "data": trained.config.data,
        "info": trained.info,
    }


def _data_values(results: Results) -> dict:
    """Returns the template values about the splits."""
    counts = count_by_split(results)
    return {
        "splits": tables.split_rows(results, counts),
        "counts": counts if len(results.class_names) <= tables.MATRIX else {},
    }


def _history_values(workdir: epath.Path) -> dict:
    """Returns the template values about the training run."""
    history, ended = tables.read_history(workdir)
    return {
        "history": {chart: charts.curves(series, chart) for chart, series in history.items()},
        "ended": ended and datetime.datetime.fromtimestamp(ended, datetime.UTC),
    }


def _metric_values(results: Results) -> dict:
    """Returns the template values about the predictions."""
    return {
        "matrix": tables.MATRIX,
        "named": charts.NAMED,
        "metrics": tables.metric_rows(results),
        "classes": tables.class_rows(results),
        "confusion": tables.confusion_rows(results),
        "pairs": tables.confused_pairs(results),
        "precision_recall": _precision_recall(results),
        "reliability": _reliability(results),
        "embedding": _embedding(results),
    }


def _baseline_values(results: Results, baseline: Baseline | None) -> dict:
    """Returns what the template shows of the classifiers without a network."""
    rows = tables.baseline_rows(results, baseline) if baseline else []
    low, _ = results.summary.intervals.get("accuracy", (None, None))
    best = max((accuracy for _, accuracy in rows[1:]), default=0.0)
    return {
        "baseline": baseline,
        "baselines": rows,
        "not_better": bool(rows) and low is not None and low <= best,
    }


def _length_values(results: Results) -> dict:
    """Returns the template values about the lengths of videos."""
    bins = lengths.by_length(results)
    return {"lengths": bins, "by_length": charts.by_length(bins) if bins else None}


def _precision_recall(results: Results) -> str | None:
    """Draws the curves of all classes, or of those with the lowest average precision."""
    curves = precision_recall(results.predictions)
    areas = {row["name"]: row["average_precision"] for row in results.summary.classes}
    if len(curves) > charts.NAMED:
        worst = sorted(curves, key=lambda name: areas[name])[: charts.NAMED]
        curves = {name: curves[name] for name in worst}
    return charts.precision_recall(curves) if curves else None


def _reliability(results: Results) -> list[dict]:
    """Returns `{title, ece, chart}` before calibration and, if there is one, after it."""
    final_ece, temperature = results.summary.metrics["ece"], results.calibration.temperature
    kinds = [("As trained", results.plain, final_ece)]
    if temperature != 1:
        plain_ece = measure(results.plain, light=True).metrics["ece"]
        kinds = [
            ("As trained", results.plain, plain_ece),
            (f"At temperature {temperature:.3f}", results.predictions, final_ece),
        ]
    return [
        {
            "title": title,
            "ece": ece,
            "chart": charts.reliability(reliability(predictions), results.multi_label),
        }
        for title, predictions, ece in kinds
    ]


def _embedding(results: Results) -> str | None:
    """Draws a t-SNE map of the features; the color of an example is that of its rarest label."""
    labels, trained, config = results.predictions.labels, results.trained, results.trained.config
    rarest = labels
    if results.multi_label:
        # Examples without a label are left out.
        frequency = np.where(labels > 0, labels.sum(0), np.inf)
        rarest = np.where(labels.any(1), frequency.argmin(1), -1)
    kept = np.flatnonzero(rarest >= 0)
    if len(kept) < DOTS[0]:
        return None
    chosen = kept[stratified_slice(rarest[kept], "", str(DOTS[1]), config.data.split_seed)]
    reader = FeatureReader(config, trained.objective, trained.mesh, trained.info, "backbone", None)
    source = Subset(results.source, results.predictions.index[chosen])
    variables = {"": (trained.params, trained.model_state)}
    features = reader.read(variables, source)[""].values
    points = project(features, "tsne", config.data.split_seed)
    return charts.embedding(points, rarest[chosen], results.class_names)


def _parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and overrides of the config."""
    parser = cli.create_parser("report", __doc__)
    add = parser.add_argument
    add("--workdir", required=True, metavar="DIR", help=cli.CHECKPOINT_HELP)
    add("--split", help="split to evaluate (default: test, or the validation split without one)")
    add(
        "--calibrate_on",
        metavar="SPLIT",
        help="split to calibrate on (default: the validation split, unless it is evaluated)",
    )
    add("--out", metavar="FILE", help="output file (default: DIR/report/report.html)")
    add(
        "--examples",
        type=int,
        default=24,
        metavar="N",
        help="images of each kind (default: %(default)s)",
    )
    add("--heat_maps", metavar="DIR", help="folder for the heat maps of volumes as NIfTI")
    add("--batch_size", type=int, metavar="B", help="batch size (default: that of the config)")
    return parser.parse_known_args(argv)


def _override(trained: Trained, override: Callable[[ConfigDict], ConfigDict]) -> None:
    """Overrides keys of `config.data`; raises a ConfigError for other keys."""
    before = trained.config.copy_and_resolve_references()
    override(trained.config)
    for key in config_lib.changed_keys(before, trained.config):
        if not key.startswith("data."):
            raise ConfigError(
                f"config.{key}: is fixed by the checkpoint; only keys of config.data can be "
                "overridden"
            )


@contextlib.contextmanager
def _writing(path: epath.Path):
    """Turns errors of writing the report into a ConfigError."""
    try:
        yield
    except OSError as e:
        raise ConfigError(f"--out={path}: can't be written: {errors.one_line(e)}") from e


if __name__ == "__main__":
    cli.run(main)
