"""Few-shot evaluation: a linear classifier fitted on a few examples of each class."""

from collections.abc import Mapping

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.data.sources.subset import Subset
from imgcls.evaluate.evaluator import register_evaluator
from imgcls.evaluate.features import Features
from imgcls.evaluate.probe import Probe, class_members
from imgcls.runs.best import Direction

# Candidate strengths of the ridge penalty.
ALPHAS = tuple(10.0**n for n in range(-3, 7))


@register_evaluator("few_shot")
class FewShot(Probe):
    """Ridge regression to +-1 for each class, on standardized features, by scikit-learn.

    Like big_vision's few-shot evaluation, except that the ridge penalty is chosen by leave-one-out
    on the shots alone. Shots are drawn by `data.split_seed`, the same in every run. Only the shots
    are read; an unreadable shot is left out.

    Args:
      config, objective, mesh, data_info: see `Evaluator`.
      train_split: name of the split that the shots are drawn from.
      split: name of the split to evaluate.
      shots: numbers of examples per class; the smaller sets of shots are subsets of the larger.
      trials: number of draws.
      layer: layer of the features, one of the objective's `feature_layers`.
      batch_size: examples per batch over all devices; None is the training batch size.

    Raises:
      ConfigError: a class has fewer examples than shots.
    """

    def __init__(
        self,
        config: ConfigDict,
        objective,
        mesh: Mesh,
        data_info,
        train_split: str = "train",
        split: str = "test",
        shots: tuple[int, ...] = (1, 5, 10),
        trials: int = 5,
        layer: str = "backbone",
        batch_size: int | None = None,
    ):
        super().__init__(config, objective, mesh, data_info, train_split, split, layer, batch_size)
        where = f"shots={shots} of train_split={train_split!r}"
        members = class_members(self.train_source, max(shots), where)
        self.protocol = (
            f"few_shot: ridge on standardized {layer} features of "
            f"{', '.join(map(str, shots))} examples per class of {self.train_name}, mean of "
            f"{trials} draws; evaluated on {self.name}"
        )
        self.directions: Mapping[str, Direction] = {
            f"accuracy_{count}shot": "higher" for count in shots
        }
        self._shots = shots
        self._drawn = draw(members, max(shots), trials, config.data.split_seed)
        self.train_source = Subset(self.train_source, np.unique(self._drawn))

    def judge(self, train: Features, values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Returns `accuracy_{n}shot`, the mean over the draws, and `accuracy_{n}shot_std`."""
        from sklearn.linear_model import RidgeClassifierCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        values = values.astype(np.float64)
        index = self.train_source.indices[train.index]
        metrics = {}
        for count in self._shots:
            scores = []
            for drawn in self._drawn:
                rows = np.isin(index, drawn[:, :count])
                model = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=ALPHAS))
                model.fit(train.values[rows].astype(np.float64), train.labels[rows])
                scores.append(model.score(values, labels))
            metrics[f"accuracy_{count}shot"] = float(np.mean(scores))
            metrics[f"accuracy_{count}shot_std"] = float(np.std(scores))
        return metrics


def draw(members: list[np.ndarray], count: int, trials: int, seed: int) -> np.ndarray:
    """Draws `count` members of each class without replacement: int `[trials, K, count]`."""
    rng = np.random.default_rng(seed)
    return np.array([[rng.choice(m, count, replace=False) for m in members] for _ in range(trials)])
