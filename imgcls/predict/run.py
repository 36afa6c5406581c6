"""A trained model in Python, for notebooks, scripts and `python -m imgcls.predict`.

run = imgcls.load("/runs/mine")
for prediction in run.predict(["cat.jpg", "holidays/", "old/*.png"]):
    print(prediction.path, prediction.labels, prediction.scores)
"""

import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.create import create_eval_loader, open_split
from imgcls.data.sources.mapped import map_classes
from imgcls.data.transforms.transform import takes_videos
from imgcls.distributed import sharding
from imgcls.evaluate.averaging import logits_over_clips, over_clips
from imgcls.evaluate.calibration import load_calibration
from imgcls.evaluate.gather import make_eval_fn
from imgcls.evaluate.metrics import Summary, measure
from imgcls.evaluate.outcomes import OutcomeReader
from imgcls.predict.explain import heat_maps, overlay
from imgcls.predict.images import ImageInputs, Images
from imgcls.predict.prediction import Prediction
from imgcls.predict.thresholds import Threshold, class_number, minimum_probabilities
from imgcls.predict.windows import Window, read_windows
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import check_classifies, load_trained

# Defaults of the methods below and of the flags of `python -m imgcls.predict`.
BATCH_SIZE = 64
TOP_K = 5


class _Batch(NamedTuple):
    """Outputs for one batch of B images, without padding.

    Attributes:
      index: positions of the images in the input, int `[B]`.
      readable: whether each image could be read, bool `[B]`.
      outputs: values computed for each image, `[B, ...]`.
      image: preprocessed images with their padding, uint8 `[B or more, H, W, C]`.
      length: frames of padded clips that are none, int `[B or more]`; otherwise None.
    """

    index: np.ndarray
    readable: np.ndarray
    outputs: np.ndarray
    image: jax.Array
    length: jax.Array | None


class Run:
    """A trained model on all devices of this machine, as returned by `imgcls.load(path)`.

    If the run kept averaged (EMA) parameters, these are used. If the checkpoint was calibrated, its
    calibration is applied: logits are divided by the temperature, and the thresholds are used.

    The methods take `images`: one image or a list of them. An image is the path of a file, a folder
    (searched recursively) or a glob; the bytes of a file; a PIL image; or a uint8 array
    `[H, W, C]` or `[H, W]`. An array `[N, H, W, C]` is N images. A model of volumes takes
    their files (docs/volumes.md) and arrays `[D, H, W]`, `[D, H, W, C]` or `[N, D, H, W, C]` of
    numbers; one of videos takes their files (docs/video.md) and arrays uint8 `[T, H, W, C]` or
    `[N, T, H, W, C]`. All are preprocessed as in evaluation.

    Args:
      path: a workdir, `WORKDIR:best`, `WORKDIR:newest`, `WORKDIR:STEP`, or the directory of one
        checkpoint. A workdir stands for its newest checkpoint, or for its best one if its config
        has `checkpoint.use='best'`.

    Attributes:
      name: name of the workdir and step, such as `digits-840`.
      config: config of the run.
      info: classes and image shape of the training data (`DataInfo`).
      class_names: names of the K classes, in the order of `probabilities`.
      task: 'softmax', 'sigmoid', 'binary' or 'multi_label'.
      calibration: temperature and thresholds, see `imgcls.evaluate.calibration`.
      takes_videos: whether the examples are videos.

    Raises:
      ConfigError: there is no checkpoint at `path`, or its calibration is invalid.
    """

    def __init__(self, path: str | os.PathLike):
        checkpoint = self._checkpoint = find_checkpoint(path)
        self.name, self._path = checkpoint.name, str(checkpoint.path)
        self._trained = load_trained(checkpoint)
        self.config, self.info = self._trained.config, self._trained.info
        # Read with threads, since worker processes would be started again for every call.
        self.config.data.workers = 0
        self.class_names, self.task = self.info.class_names, self._trained.objective.task
        self.calibration = load_calibration(checkpoint, self.class_names)
        transform = self.config.data.eval_transform
        self.takes_videos = takes_videos(transform, "config.data.eval_transform")
        self._scores = functools.cache(self._make_scores)
        self._features = functools.cache(self._make_features)

    def __repr__(self) -> str:
        parts = [repr(self._path), self.config.model.name, f"{len(self.class_names)} classes"]
        parts += ["averaged parameters"] if self.config.ema else []
        return f"Run({', '.join(parts)})"

    def predict(
        self,
        images: Images,
        *,
        batch_size: int = BATCH_SIZE,
        top_k: int = TOP_K,
        flip: bool = False,
        threshold: Threshold = None,
        on_error: str = "fail",
    ) -> list[Prediction | None]:
        """Predicts the classes of each image, in order.

        >>> run.predict("cat.jpg")
        [Prediction('cat.jpg', labels=['cat'], scores={'cat': 0.973, 'dog': 0.027})]
        >>> run.predict(np.zeros((32, 32, 3), np.uint8), top_k=1, threshold=0.9)
        [Prediction(None, labels=[], scores={'dog': 0.512})]

        Args:
          images: see the class docstring.
          batch_size: maximum number of images per batch, over all devices.
          top_k: number of classes in `scores`.
          flip: whether to average the probabilities of each image and its mirror image.
          threshold: one number, or `{class: number}` for some classes. For a multi-label model it
            replaces the calibrated thresholds (or 0.5); for any other, `labels` is empty if the
            most probable class is below it.
          on_error: 'fail' raises an error at an unreadable image, 'skip' returns None for it.

        Raises:
          ConfigError: the model has no classes, a folder or glob has no images, or an argument is
            invalid.
          DataError: an image can't be read and `on_error` is 'fail'.
        """
        return list(
            self.stream(
                images,
                batch_size=batch_size,
                top_k=top_k,
                flip=flip,
                threshold=threshold,
                on_error=on_error,
            )
        )

    def stream(
        self,
        images: Images,
        *,
        batch_size: int = BATCH_SIZE,
        top_k: int = TOP_K,
        flip: bool = False,
        threshold: Threshold = None,
        on_error: str = "fail",
        explain: bool | str = False,
    ) -> Iterator[Prediction | None]:
        """Yields what `predict` returns, with only a few batches in memory at any time.

        Args:
          images, batch_size, top_k, flip, threshold, on_error: see `predict`.
          explain: whether to add an `overlay` for the most probable class; the name of a class adds
            one for that class.
        """
        check_classifies(self._trained, self._path)
        if top_k < 1:
            raise ConfigError(f"top_k={top_k}: must be 1 or more")
        minimum = self._minimum(threshold)
        explained = self._number(None if isinstance(explain, bool) else explain)
        inputs = self._inputs(images)
        batches = self._batches(self._scores(flip), inputs, batch_size, on_error)

        def predictions() -> Iterator[Prediction | None]:
            for batch in batches:
                drawn = [(None, None)] * len(batch.index)
                if explain is not False:
                    drawn = self._overlays(batch, explained)
                rows = zip(batch.index, batch.readable, batch.outputs, drawn, strict=True)
                for i, readable, row, heat in rows:
                    path = inputs.path(i)
                    yield self._prediction(path, row, minimum, top_k, *heat) if readable else None

        return predictions()

    def windows(
        self,
        path: str | os.PathLike,
        every: float,
        *,
        batch_size: int = BATCH_SIZE,
        top_k: int = TOP_K,
        flip: bool = False,
        threshold: Threshold = None,
    ) -> Iterator[Prediction]:
        """Yields a prediction for each window of a video, however long it is.

        >>> [(p.start, p.labels) for p in run.windows("day.mp4", every=2.0)]

        Args:
          path: file of a video, which is read as a stream; raises the errors of `read_windows`.
          every: length of a window in seconds.
          batch_size, top_k, flip, threshold: see `predict`.
        """
        check_classifies(self._trained, self._path)
        if not self.takes_videos:
            raise ConfigError(f"{self._path}: windows are parts of videos, and it takes images")
        file, minimum = os.fspath(path), self._minimum(threshold)
        windows = read_windows(file, every, self.config, self.info.image_shape[-1])
        while batch := list(itertools.islice(windows, batch_size)):
            for window, scores in zip(batch, self._score(batch, batch_size, flip), strict=True):
                prediction = self._prediction(file, scores, minimum, top_k, None, None)
                yield dataclasses.replace(prediction, start=window.start, end=window.end)

    def _score(self, windows: list[Window], batch_size: int, flip: bool) -> np.ndarray:
        """Probabilities `[N, K]` of windows, computed in one batch."""
        trained, shards = self._trained, sharding.num_shards(self._trained.mesh)
        clips = np.zeros((-(-batch_size // shards) * shards, *windows[0].clip.shape), np.uint8)
        clips[: len(windows)] = [window.clip for window in windows]
        batch = jax.device_put({"image": clips}, sharding.batch_sharding(trained.mesh))
        scores = self._scores(flip)(trained.params, trained.model_state, batch)
        return np.asarray(scores)[: len(windows)]

    def features(self, images: Images, *, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Computes the backbone features of each image, float32 `[N, D]`.

        It also works for runs without classes.

        >>> run.features(["a.jpg", "b.jpg"]).shape
        (2, 512)

        Raises:
          DataError: an image can't be read.
        """
        inputs = self._inputs(images)
        batches = self._batches(self._features(), inputs, batch_size, "fail")
        parts = [batch.outputs for batch in batches]
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def explain(
        self, images: Images, class_name: str | None = None, *, batch_size: int = BATCH_SIZE
    ) -> list[np.ndarray]:
        """Draws a heat map over each preprocessed image, see `Prediction.overlay`.

        >>> PIL.Image.fromarray(run.explain("cat.jpg", "cat")[0])

        Args:
          images: see the class docstring.
          class_name: class whose evidence the map shows; None is the most probable class.
          batch_size: maximum number of images per batch, over all devices.

        Raises:
          ConfigError: the model has no such class, or can't be explained.
          DataError: an image can't be read.
        """
        check_classifies(self._trained, self._path)
        explained = self._number(class_name)
        inputs = self._inputs(images)
        batches = self._batches(self._scores(False), inputs, batch_size, "fail")
        return [image for batch in batches for image, _ in self._overlays(batch, explained)]

    def evaluate(
        self,
        split: str = "test",
        *,
        source: str | None = None,
        data_dir: str | None = None,
        bootstrap: int = 1000,
    ) -> Summary:
        """Evaluates the calibrated model on labeled examples, see `evaluate.metrics.measure`.

        >>> run.evaluate("test").metrics["accuracy"]
        0.9972
        >>> run.evaluate("test[:50%]", source="folder:/new/images").classes

        Args:
          split: name of a split, with an optional slice.
          source: dataset with classes of the model, in the form of `config.data.source`; None is
            the dataset that the run was trained on.
          data_dir: directory of `source`, in the form of `config.data.dir`.
          bootstrap: number of bootstrap replicates for confidence intervals; 0 for no intervals.

        Raises:
          ConfigError: the model has no classes, or the data does not exist or has classes that
            are not in the model.
          DataError: an image can't be read and the run's `data.on_error` is not 'skip'.
        """
        check_classifies(self._trained, self._path)
        config = self.config.copy_and_resolve_references()
        if source is not None:
            config.data.source, config.data.dir = source, data_dir
        examples = open_split(config, split)
        examples = map_classes(examples, self.class_names, f"split {split!r}")
        trained = self._trained
        variables = {"": (trained.params, trained.model_state)}
        reader = OutcomeReader(config, trained.objective, trained.mesh)
        return measure(reader.read(variables, examples)[""], self.calibration, bootstrap=bootstrap)

    def _inputs(self, images: Images) -> ImageInputs:
        *axes, channels = self.info.image_shape
        return ImageInputs(images, self.class_names, channels, len(axes), self.takes_videos)

    def _batches(
        self, outputs: Callable, inputs: ImageInputs, batch_size: int, on_error: str
    ) -> Iterator[_Batch]:
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: must be 1 or more")
        config = self.config.copy_and_resolve_references()
        config.data.on_error = on_error
        return self._read(outputs, inputs, batch_size, config) if len(inputs) else iter(())

    def _read(
        self, outputs: Callable, inputs: ImageInputs, batch_size: int, config: ConfigDict
    ) -> Iterator[_Batch]:
        mesh, shards = self._trained.mesh, sharding.num_shards(self._trained.mesh)
        # Powers of two, so that calls with similar numbers of images share a compiled program.
        batch_size = min(batch_size, 1 << (len(inputs) - 1).bit_length())
        batch_size = -(-batch_size // shards) * shards
        variables = (self._trained.params, self._trained.model_state)
        with contextlib.closing(create_eval_loader(config, inputs, mesh, batch_size)) as loader:
            for batch in loader:
                computed = outputs(*variables, batch)
                index, mask, values = jax.device_get((batch["index"], batch["mask"], computed))
                count = int((index >= 0).sum())  # The last batch ends in padding.
                outputs_of = index[:count], mask[:count] > 0, values[:count]
                yield _Batch(*outputs_of, batch["image"], batch.get("length"))

    def _make_scores(self, flip: bool) -> Callable:
        objective, temperature = self._trained.objective, self.calibration.temperature

        def scores(params, model_state, batch):
            def score(image):
                views = {**batch, "image": image}
                logits = logits_over_clips(objective, params, model_state, views)
                return objective.scores(logits / temperature)

            image = batch["image"]
            if not flip:
                return score(image)
            return (score(image) + score(jnp.flip(image, axis=-2))) / 2

        return make_eval_fn(scores, self.config, self._trained.mesh)

    def _make_features(self) -> Callable:
        features = functools.partial(over_clips, self._trained.objective.features)
        return make_eval_fn(features, self.config, self._trained.mesh)

    def _overlays(
        self, batch: _Batch, explained: int | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Draws heat maps over the images, for one class or for the most probable ones.

        Returns:
          `overlay` and `heat` of `Prediction` for each image.
        """
        pixels = np.asarray(batch.image)[: len(batch.index)]
        if pixels.ndim == 6:  # Of several clips of a video, that in the middle.
            pixels = pixels[:, pixels.shape[1] // 2]
        classes = batch.outputs.argmax(1) if explained is None else np.full(len(pixels), explained)
        lengths = None if batch.length is None else np.asarray(batch.length)[: len(pixels)]
        maps = heat_maps(self._trained, pixels, classes, lengths)
        pairs = zip(pixels, maps, strict=True)
        return [(overlay(*pair, is_clip=self.takes_videos), pair[1]) for pair in pairs]

    def _number(self, class_name: str | None) -> int | None:
        return (
            None if class_name is None else class_number(class_name, self.class_names, self._path)
        )

    def _minimum(self, threshold: Threshold) -> np.ndarray:
        names = self.class_names
        return minimum_probabilities(threshold, self.calibration, self.task, names, self._path)

    def _prediction(
        self,
        path: str | None,
        scores: np.ndarray,
        minimum: np.ndarray,
        top_k: int,
        overlay_image: np.ndarray | None,
        heat: np.ndarray | None,
    ) -> Prediction:
        order, names = np.argsort(-scores, kind="stable"), self.class_names
        candidates = order if self.task == "multi_label" else order[:1]
        return Prediction(
            path=path,
            labels=[names[i] for i in candidates if scores[i] >= minimum[i]],
            scores={names[i]: float(scores[i]) for i in order[:top_k]},
            probabilities=scores,
            overlay=overlay_image,
            heat=heat,
        )
