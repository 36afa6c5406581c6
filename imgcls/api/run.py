"""A run in Python: the trained model with its figures and curves."""

import os

import jax
import numpy as np

from imgcls.browse.__main__ import Page, browse
from imgcls.core import notebook_html
from imgcls.core.storage import as_path
from imgcls.predict import run as predict
from imgcls.predict.images import ImageInput, Images
from imgcls.predict.prediction import Prediction
from imgcls.report import charts, html, tables
from imgcls.report.__main__ import Report, report
from imgcls.report.previews import read_previews
from imgcls.runs.metrics_log import read_metrics

# Largest number of predictions that a notebook shows, and longest side of their pictures.
SHOWN, SIDE = 24, 160


class Run(predict.Run):
    """A trained model, see `imgcls.predict.run.Run`, with what its training logged.

    In a notebook it shows its metrics and curves.

    Args:
      path: see `imgcls.predict.run.Run`.

    Attributes:
      workdir: directory of the run.
      step: step of the checkpoint.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__(path)
        self.workdir, self.step = os.fspath(self._checkpoint.workdir), self._checkpoint.step

    @property
    def history(self) -> list[dict[str, float]]:
        """Lines of `metrics.jsonl` up to the checkpoint: `step`, `time` and metrics by name."""
        lines = read_metrics(as_path(self.workdir))
        return [line for line in lines if line["step"] <= self.step]

    @property
    def metrics(self) -> dict[str, float]:
        """The newest value of each metric of the evaluators, `{'test/accuracy': 0.99}`."""
        values = {}
        for line in self.history:
            names = [k for k in line if k.split("/")[0] in self.config.evaluators]
            values |= {name: line[name] for name in names}
        return values

    def predict(self, images: Images, **options) -> "Predictions":
        """Predicts the classes of each image, see `imgcls.predict.run.Run.predict`.

        Returns:
          A list that shows the pictures with their scores in a notebook.
        """
        if not isinstance(images, ImageInput):
            images = list(images)
        return Predictions(super().predict(images, **options), self, images)

    def report(self, **options) -> Report:
        """Writes the report of this checkpoint, see `imgcls.report`."""
        return report(self._path, **options)

    def browse(self, **options) -> Page:
        """Shows what the training of this run saw, see `imgcls.browse`."""
        return browse(self.config, **options)

    def pictures(self, images: Images, count: int) -> list[np.ndarray | None]:
        """The first images as the model sees them, uint8 `[H, W, C]`; None if unreadable."""
        inputs = self._inputs(images)
        first = np.arange(min(count, len(inputs)))
        return read_previews(self.config, inputs, first, self._trained.mesh)

    def _repr_html_(self) -> str:
        count = sum(x.size for x in jax.tree.leaves(self._trained.params))
        title = (
            f"<b>{notebook_html.text(self.name)}</b>: {notebook_html.text(self.config.model.name)}"
            f", {len(self.class_names)} classes, {count:,} parameters, step {self.step:,}"
        )
        metrics = notebook_html.table(("metric", "value"), self.metrics.items())
        history, _ = tables.read_history(as_path(self.workdir))
        curves = "".join(
            f"<img style='max-width:360px' src='{charts.curves(series, chart)}'>"
            for chart, series in history.items()
        )
        return f"<div><p>{title}</p>{metrics if self.metrics else ''}<div>{curves}</div></div>"


class Predictions(list[Prediction | None]):
    """Predictions in the order of the images; a notebook shows the pictures with their scores.

    Args:
      predictions: predictions of the images.
      run: the run that predicted.
      images: what was predicted.
    """

    def __init__(self, predictions: list[Prediction | None], run: Run, images: Images):
        super().__init__(predictions)
        self._run, self._images = run, images

    def _repr_html_(self) -> str:
        pictures = self._run.pictures(self._images, SHOWN)
        cards = [
            _card(prediction, picture)
            for prediction, picture in zip(self[:SHOWN], pictures, strict=True)
        ]
        more = f"<p>and {len(self) - SHOWN:,} more</p>" if len(self) > SHOWN else ""
        return f"<div style='display:flex;flex-wrap:wrap;gap:16px'>{''.join(cards)}</div>{more}"


def _card(prediction: Prediction | None, picture: np.ndarray | None) -> str:
    """A picture over its name and scores."""
    if prediction is None or picture is None:
        return "<div>can't be read</div>"
    side = max(SIDE, *picture.shape[:2]) if max(picture.shape[:2]) <= SIDE else SIDE
    image = f"<img style='max-width:{side}px;min-width:64px' src='{html.image_uri(picture, SIDE)}'>"
    name = os.path.basename(prediction.path) if prediction.path else ""
    bars = "".join(notebook_html.bar(label, s) for label, s in prediction.scores.items())
    return f"<div>{image}<div style='font-size:12px'>{notebook_html.text(name)}</div>{bars}</div>"
