"""Linear probe: logistic regression on frozen features."""

import warnings
from collections.abc import Mapping

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.evaluate.evaluator import register_evaluator
from imgcls.evaluate.features import Features
from imgcls.evaluate.probe import Probe, accuracies, class_members
from imgcls.runs.best import Direction

HOLDOUT = 0.2


@register_evaluator("linear_probe")
class LinearProbe(Probe):
    """Multinomial logistic regression (L-BFGS, L2) on standardized features, by scikit-learn.

    C, the inverse strength of the L2 penalty, is the value in `grid` with the highest accuracy on a
    held-out stratified fifth of the training split, drawn by `data.split_seed`. The classifier is
    then fitted again with this C on the full training split. It runs on the host in float64; the
    ImageNet training split with D = 2,048 takes 21 GB and hours.

    Args:
      config, objective, mesh, data_info: see `Evaluator`.
      train_split: name of the split that the classifier is fitted on.
      split: name of the split to evaluate.
      layer: layer of the features, one of the objective's `feature_layers`.
      batch_size: examples per batch over all devices; None is the training batch size.
      grid: candidate values of C.
      max_iter: maximum number of L-BFGS iterations per fit.

    Raises:
      ConfigError: a class has fewer than five examples.
    """

    directions: Mapping[str, Direction] = {**Probe.directions, "holdout_accuracy": "higher"}

    def __init__(
        self,
        config: ConfigDict,
        objective,
        mesh: Mesh,
        data_info,
        train_split: str = "train",
        split: str = "test",
        layer: str = "backbone",
        batch_size: int | None = None,
        grid: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
        max_iter: int = 1000,
    ):
        super().__init__(config, objective, mesh, data_info, train_split, split, layer, batch_size)
        class_members(self.train_source, 5, f"train_split={train_split!r}, a fifth is held out")
        self._grid, self._max_iter, self._seed = sorted(grid), max_iter, config.data.split_seed
        self.protocol = (
            f"linear_probe: logistic regression on standardized {layer} features of "
            f"{self.train_name}, C chosen from {len(grid)} values on a held-out fifth; evaluated "
            f"on {self.name}"
        )

    def judge(self, train: Features, values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Returns `accuracy`, `top5_accuracy`, `C`, `holdout_accuracy` and `converged`.

        `holdout_accuracy` is the accuracy of the chosen `C` on the held-out part. `converged` is 1
        if the final fit converged within `max_iter` iterations, otherwise 0.
        """
        features, values = train.values.astype(np.float64), values.astype(np.float64)
        c, holdout_accuracy = self._choose(features, train.labels)
        classifier, converged = self._fit(features, train.labels, c)
        order = np.argsort(-classifier.predict_proba(values), axis=1, kind="stable")
        ranked = classifier.classes_[order]
        return {
            **accuracies(ranked, labels, len(self.class_names)),
            "C": c,
            "holdout_accuracy": holdout_accuracy,
            "converged": int(converged),
        }

    def _choose(self, features: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
        """Returns the best C (the smallest of equally good ones) and its held-out accuracy."""
        from sklearn.model_selection import train_test_split

        parts = train_test_split(
            features, labels, test_size=HOLDOUT, stratify=labels, random_state=self._seed
        )
        fitted, held_out, fitted_labels, held_out_labels = map(np.asarray, parts)
        scores = [
            self._fit(fitted, fitted_labels, c)[0].score(held_out, held_out_labels)
            for c in self._grid
        ]
        best = int(np.argmax(scores))
        return float(self._grid[best]), float(scores[best])

    def _fit(self, features: np.ndarray, labels: np.ndarray, c: float) -> tuple:
        """Returns a fitted pipeline and whether it converged."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=c, solver="lbfgs", max_iter=self._max_iter)
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(features, labels)
        return model, not any(issubclass(w.category, ConvergenceWarning) for w in caught)
