"""A linear classifier on frozen features, regularised without a look at the test examples."""

import warnings

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.evaluate.evaluator import register_evaluator
from imgcls.evaluate.features import Features
from imgcls.evaluate.probe import Probe, accuracies, class_members

HOLDOUT = 0.2


@register_evaluator("linear_probe")
class LinearProbe(Probe):
    """Multinomial logistic regression (L-BFGS, L2) on standardised features, by scikit-learn.

    C, the inverse strength of the L2 penalty, is the value of `grid` that is best on a stratified
    fifth of the training split, drawn by `data.split_seed`; with it the classifier is fitted anew
    on all of the training split. It runs on the host in float64: 21 GB for ImageNet's training
    images at D = 2,048, and hours.

    Args:
      config, objective, mesh, data_info: of the run.
      train_split: what the classifier is made from.
      split: what is judged.
      layer: of the features, one of the objective's `feature_layers`.
      batch_size: over all devices; None is the training batch.
      grid: values of C to choose from.
      max_iter: L-BFGS iterations of a fit.

    Raises:
      ConfigError: a class has fewer than five examples.
    """

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
            f"linear_probe: logistic regression on standardised {layer} features of "
            f"{self.train_name}, C of {len(grid)} values by a fifth of it held out, {self.name} "
            "judged"
        )

    def judge(self, train: Features, values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """`accuracy`, `top5_accuracy` (above 5 classes), the chosen `C`, its `holdout_accuracy`.

        And whether the last fit `converged` within `max_iter` iterations: 0 or 1.
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
        """The best C and its accuracy on a held-out part; of equals the smallest."""
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
        """A fitted pipeline, and whether it converged."""
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
