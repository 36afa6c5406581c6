"""Scatter plot of the features in two dimensions, colored by class."""

from collections.abc import Mapping

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.sources.splits import stratified_slice
from imgcls.data.sources.subset import Subset
from imgcls.evaluate.evaluator import register_evaluator
from imgcls.evaluate.features import FeatureReader
from imgcls.runs.best import Direction

# With more classes than this the plot has no legend.
LEGEND = 20


@register_evaluator("embedding_map")
class EmbeddingMap:
    """Plot of features of a split, by PCA or t-SNE (van der Maaten & Hinton 2008).

    The examples are a stratified sample drawn by `data.split_seed`, the same in every run.

    Args:
      config, objective, mesh, data_info: see `Evaluator`.
      split: name of the split that the examples are from.
      method: 'pca' or 'tsne'.
      examples: number of examples; all if the split has fewer.
      layer: layer of the features, one of the objective's `feature_layers`.
      batch_size: examples per batch over all devices; None is the training batch size.

    Raises:
      ConfigError: there are fewer than 3 examples, or the split can't be used (see
        `FeatureReader.open`).
    """

    directions: Mapping[str, Direction] = {}

    def __init__(
        self,
        config: ConfigDict,
        objective,
        mesh: Mesh,
        data_info,
        split: str = "test",
        method: str = "pca",
        examples: int = 1000,
        layer: str = "backbone",
        batch_size: int | None = None,
    ):
        if method not in ("pca", "tsne"):
            raise ConfigError(f"method={method!r}: unknown; write 'pca' or 'tsne'")
        self._reader = FeatureReader(config, objective, mesh, data_info, layer, batch_size)
        source = self._reader.open(split)
        seed = config.data.split_seed
        chosen = stratified_slice(source.labels(), "", str(examples), seed)
        if len(chosen) < 3:
            raise ConfigError(
                f"{len(chosen)} examples of split {split!r} are too few for a map; use 3 or more"
            )
        self._source, self._method = Subset(source, chosen), method
        self._class_names, self._seed = data_info.class_names, seed
        self.protocol = (
            f"embedding_map: {method} of the {layer} features of {len(chosen):,} examples of "
            f"{split} ({len(source):,})"
        )

    def run(self, variables: dict[str, tuple]) -> dict[str, np.ndarray]:
        """Returns an image named after the method for each set of variables, in one pass."""
        features = self._reader.read(variables, self._source)
        return {
            f"{prefix}{self._method}": draw_map(
                project(f.values, self._method, self._seed), f.labels, self._class_names
            )
            for prefix, f in features.items()
        }


def project(features: np.ndarray, method: str, seed: int) -> np.ndarray:
    """Projects features `[N, D]` to two dimensions, `[N, 2]`."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if min(features.shape) < 2:
        raise ConfigError(
            f"evaluation: a map needs 2 or more examples and dimensions, got features "
            f"{list(features.shape)}; use another layer, or more examples"
        )
    if method == "pca":
        return PCA(2, svd_solver="full").fit_transform(features)
    # The default perplexity, or a third of the other examples if there are few.
    perplexity = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(2, init="pca", perplexity=perplexity, random_state=seed)
    # Its threads spin while they wait for each other: alongside the data loading threads, one is
    # eight times as fast as two. One thread also fixes the order of the sums.
    with threadpool_limits(1):
        return tsne.fit_transform(features)


def draw_map(points: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> np.ndarray:
    """Draws a scatter plot, uint8 `[700, 900, 3]`.

    Args:
      points: `[N, 2]`.
      labels: int `[N]`.
      class_names: names of the K classes, shown in a legend if K <= `LEGEND`.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xticks=[], yticks=[])
    count, few = len(class_names), len(class_names) <= LEGEND
    # tab20 has pairs of similar colors, so it is used only if tab10 has too few.
    name = ("tab10" if count <= 10 else "tab20") if few else "turbo"
    colors = colormaps[name](range(count) if few else np.linspace(0, 1, count))
    axes.scatter(*points.T, s=14, c=colors[labels], linewidths=0)
    if few:
        marks = [axes.scatter([], [], color=color) for color in colors]
        legend = axes.legend(marks, class_names, loc="upper left", bbox_to_anchor=(1, 1))
        for text in legend.get_texts():
            text.set_parse_math(False)  # A class may be named '$'.
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
