"""A trained model in Python, for notebooks and scripts; the command `predict` uses it too.

run = imgcls.load("/runs/mine")
for answer in run.predict(["cat.jpg", "holidays/", "old/*.png"]):
    print(answer.path, answer.labels, answer.scores)
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.create import create_eval_loader, open_split
from imgcls.data.sources.source import check_classes
from imgcls.distributed import sharding
from imgcls.evaluate.calibration import load_calibration
from imgcls.evaluate.gather import make_eval_fn
from imgcls.evaluate.predictions import read_predictions
from imgcls.evaluate.summary import Summary, summarize
from imgcls.predict.explain import heat_maps, overlay
from imgcls.predict.pictures import Images, Pictures
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import check_classifies, load_trained

Threshold = float | Mapping[str, float] | None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a model says of one picture.

    Attributes:
      path: of the file; None for a picture that was given itself.
      labels: the classes that are said: the most probable one or, of a multi-label model, all from
        their threshold on, the most probable first; empty where none reaches its threshold.
      scores: the `top_k` most probable classes with their probabilities, the best first.
      probabilities: of all classes, float32 `[K]`.
      overlay: uint8 `[H, W, 3]`, where the model looked, if that was asked for.
    """

    path: str | None
    labels: list[str]
    scores: dict[str, float]
    probabilities: np.ndarray
    overlay: np.ndarray | None = None

    def __repr__(self) -> str:
        scores = ", ".join(f"{name!r}: {score:.3f}" for name, score in self.scores.items())
        return f"Prediction({self.path!r}, labels={self.labels!r}, scores={{{scores}}})"


class Run:
    """A trained model, on all devices of this machine. `imgcls.load(path)` makes one.

    Where a run kept averaged (EMA) parameters, those are used. A calibration that lies in the
    checkpoint is applied: logits are divided by its temperature, and its thresholds hold.

    `images` of the methods is one picture or a list of them: the path of a file, a folder (searched
    deeply) or a glob; the bytes of a file; a PIL image; or a uint8 array `[H, W, C]` or `[H, W]`
    (also `[N, H, W, C]`: N of them). All go through the preprocessing of evaluation.

    Args:
      path: a workdir (its newest checkpoint), or one checkpoint's directory.

    Attributes:
      name: of the workdir and the step, such as `digits-840`.
      config: of the run.
      info: `DataInfo`: the data's classes and shape.
      class_names: of the K classes, in the order of `probabilities`.
      task: 'softmax', 'sigmoid', 'binary' or 'multi_label'.
      calibration: what was chosen on validation, see `imgcls.evaluate.calibration`.

    Raises:
      ConfigError: no checkpoint there, or a broken calibration.
    """

    def __init__(self, path: str | os.PathLike):
        checkpoint = find_checkpoint(path)
        self.name, self._path = checkpoint.name, str(checkpoint.path)
        self._trained = load_trained(checkpoint)
        self.config, self.info = self._trained.config, self._trained.info
        # Threads: worker processes would start anew with every call.
        self.config.data.workers = 0
        self.class_names, self.task = self.info.class_names, self._trained.objective.task
        self.calibration = load_calibration(checkpoint, self.class_names)
        self._scores = functools.cache(self._make_scores)
        self._features = functools.cache(self._make_features)

    def __repr__(self) -> str:
        return f"Run({self._path!r}, {self.config.model.name}, {len(self.class_names)} classes)"

    def predict(
        self,
        images: Images,
        *,
        batch_size: int = 64,
        top_k: int = 5,
        flip: bool = False,
        threshold: Threshold = None,
        on_error: str = "fail",
    ) -> list[Prediction]:
        """What the model says of each picture, in order.

        >>> run.predict("cat.jpg")
        [Prediction('cat.jpg', labels=['cat'], scores={'cat': 0.973, 'dog': 0.027})]
        >>> run.predict(np.zeros((32, 32, 3), np.uint8), top_k=1, threshold=0.9)
        [Prediction(None, labels=[], scores={'dog': 0.512})]

        Args:
          images: see the class.
          batch_size: at most so many at once, over all devices.
          top_k: how many classes `scores` has.
          flip: takes the mean of the probabilities of the picture and its mirror image.
          threshold: in place of the calibrated ones (or 0.5) in multi-label; otherwise a best class
            below it is not said. One number, or `{class: number}` for some classes.
          on_error: 'fail' raises at an unreadable picture, 'skip' leaves None in its place.

        Raises:
          ConfigError: a model without classes, a folder or glob without pictures, or a wrong value.
          DataError: a picture that can't be read.
        """
        options = dict(batch_size=batch_size, top_k=top_k, flip=flip, threshold=threshold)
        return list(self.stream(images, on_error=on_error, **options))

    def stream(
        self,
        images: Images,
        *,
        batch_size: int = 64,
        top_k: int = 5,
        flip: bool = False,
        threshold: Threshold = None,
        on_error: str = "fail",
        explain: bool | str = False,
    ) -> Iterator[Prediction | None]:
        """As `predict`, one after another: of any number of files only a few batches are in memory.

        Args:
          images, batch_size, top_k, flip, threshold, on_error: as of `predict`.
          explain: adds an `overlay` for the best class (True) or for the class of that name.
        """
        check_classifies(self._trained, self._path)
        if top_k < 1:
            raise ConfigError(f"top_k={top_k}: must be 1 or more")
        least = self._least(threshold)
        chosen = None if isinstance(explain, bool) else self._class_number(explain)
        pictures = Pictures(images, self.class_names)
        batches = self._batches(self._scores(flip), pictures, batch_size, on_error)

        def predictions() -> Iterator[Prediction | None]:
            for index, readable, scores, image in batches:
                overlays = [None] * len(index)
                if explain is not False:
                    pixels = np.asarray(image)[: len(index)]
                    classes = scores.argmax(1) if chosen is None else np.full(len(index), chosen)
                    overlays = map(overlay, pixels, heat_maps(self._trained, pixels, classes))
                for i, ok, row, shown in zip(index, readable, scores, overlays, strict=True):
                    path = pictures.path(i)
                    yield self._prediction(path, row, least, top_k, shown) if ok else None

        return predictions()

    def features(self, images: Images, *, batch_size: int = 64) -> np.ndarray:
        """The backbone's features of each picture, float32 `[N, D]`; also of runs without classes.

        >>> run.features(["a.jpg", "b.jpg"]).shape
        (2, 512)

        Raises:
          DataError: a picture that can't be read.
        """
        pictures = Pictures(images, self.class_names)
        batches = self._batches(self._features(), pictures, batch_size, "fail")
        found = [values for _, _, values, _ in batches]
        return np.concatenate(found) if found else np.zeros((0, 0), np.float32)

    def explain(
        self, images: Images, class_name: str | None = None, *, batch_size: int = 64
    ) -> list[np.ndarray]:
        """Each picture, as the model sees it, under a heat map: uint8 `[H, W, 3]`.

        >>> PIL.Image.fromarray(run.explain("cat.jpg", "cat")[0])

        Args:
          images: see the class.
          class_name: what the model looked at to say that; None is the most probable class.
          batch_size: at most so many at once, over all devices.

        Raises:
          ConfigError: no such class, or a model that can't be explained.
          DataError: a picture that can't be read.
        """
        explain = True if class_name is None else class_name
        found = self.stream(images, batch_size=batch_size, explain=explain)
        return [prediction.overlay for prediction in found]

    def evaluate(
        self,
        split: str = "test",
        *,
        source: str | None = None,
        data_dir: str | None = None,
        bootstrap: int = 1000,
    ) -> Summary:
        """Metrics of the calibrated model on labelled examples, see `evaluate.summary.summarize`.

        >>> run.evaluate("test").metrics["accuracy"]
        0.9972
        >>> run.evaluate("test[:50%]", source="folder:/new/pictures").classes

        Args:
          split: with an optional slice.
          source: as of `config.data.source`, of the same classes; None is the run's own data.
          data_dir: of that source, as of `config.data.dir`.
          bootstrap: replicates for the intervals; 0 for none.

        Raises:
          ConfigError: a model without classes, no such data, or data of other classes.
          DataError: a picture that can't be read, unless the run's `data.on_error` is 'skip'.
        """
        check_classifies(self._trained, self._path)
        config = self.config.copy_and_resolve_references()
        if source is not None:
            config.data.source, config.data.dir = source, data_dir
        examples = open_split(config, split)
        check_classes(examples.class_names, self.class_names, f"split {split!r}")
        trained = self._trained
        variables = {"": (trained.params, trained.model_state)}
        found = read_predictions(config, trained.objective, trained.mesh, variables, examples)
        return summarize(found[""], self.calibration, bootstrap=bootstrap)

    def _batches(
        self, outputs: Callable, pictures: Pictures, batch_size: int, on_error: str
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, jax.Array]]:
        """Batch by batch: index, readable or not, outputs, and uint8 `image` with its padding."""
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: must be 1 or more")
        config = self.config.copy_and_resolve_references()
        config.data.on_error = on_error
        return self._read(outputs, pictures, batch_size, config) if len(pictures) else iter(())

    def _read(self, outputs: Callable, pictures: Pictures, batch_size: int, config):
        mesh, shards = self._trained.mesh, sharding.num_shards(self._trained.mesh)
        # Powers of two: calls with a few pictures more or less share a compiled program.
        batch_size = min(batch_size, 1 << (len(pictures) - 1).bit_length())
        batch_size = -(-batch_size // shards) * shards
        variables = (self._trained.params, self._trained.model_state)
        with contextlib.closing(create_eval_loader(config, pictures, mesh, batch_size)) as loader:
            for batch in loader:
                found = outputs(*variables, batch)
                index, mask, found = jax.device_get((batch["index"], batch["mask"], found))
                count = int((index >= 0).sum())  # The last batch ends in padding.
                yield index[:count], mask[:count] > 0, found[:count], batch["image"]

    def _make_scores(self, flip: bool) -> Callable:
        objective, temperature = self._trained.objective, self.calibration.temperature

        def scores(params, model_state, batch):
            def of(image):
                logits = objective.logits(params, model_state, {**batch, "image": image})
                return objective.scores(logits / temperature)

            image = batch["image"]
            if not flip:
                return of(image)
            return (of(image) + of(jnp.flip(image, axis=-2))) / 2

        return make_eval_fn(scores, self.config, self._trained.mesh)

    def _make_features(self) -> Callable:
        return make_eval_fn(self._trained.objective.features, self.config, self._trained.mesh)

    def _least(self, threshold: Threshold) -> np.ndarray:
        """From which probability on a class is said, float `[K]`."""
        least = self.calibration.thresholds
        if least is None:
            # Above 0.5, as evaluation counts.
            default = np.nextafter(np.float32(0.5), 1) if self.task == "multi_label" else 0.0
            least = np.full(len(self.class_names), default)
        if threshold is None:
            return least
        given = threshold
        if not isinstance(threshold, Mapping):
            given = dict.fromkeys(self.class_names, threshold)
        least = least.copy()
        for name, value in given.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1:
                raise ConfigError(
                    f"threshold={threshold!r}: must be a number from 0 to 1, or one for some "
                    'classes: {"cat": 0.3}'
                )
            least[self._class_number(name)] = value
        return least

    def _class_number(self, name: str) -> int:
        if name not in self.class_names:
            shown = ", ".join(self.class_names[:10]) + (", ..." * (len(self.class_names) > 10))
            raise ConfigError(f"{name!r} is no class of {self._path}; it has {shown}")
        return self.class_names.index(name)

    def _prediction(
        self, path: str | None, scores: np.ndarray, least: np.ndarray, top_k: int, shown
    ) -> Prediction:
        order = np.argsort(-scores, kind="stable")
        said = order if self.task == "multi_label" else order[:1]
        names = self.class_names
        return Prediction(
            path=path,
            labels=[names[i] for i in said if scores[i] >= least[i]],
            scores={names[i]: float(scores[i]) for i in order[:top_k]},
            probabilities=scores,
            overlay=shown,
        )
