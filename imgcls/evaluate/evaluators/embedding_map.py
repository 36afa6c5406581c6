"""A picture of the features: a map in two dimensions, coloured by class."""

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError
from imgcls.data.sources.splits import stratified_slice
from imgcls.data.sources.subset import Subset
from imgcls.evaluate.evaluator import register_evaluator
from imgcls.evaluate.features import FeatureReader

# More classes than this are coloured, but not told apart by name.
LEGEND = 20


@register_evaluator("embedding_map")
class EmbeddingMap:
    """Features of a stratified part of a split, by PCA or t-SNE (van der Maaten & Hinton 2008).

    The same examples in every run, chosen by `data.split_seed`.

    Args:
      config, objective, mesh, data_info: of the run.
      split: which examples.
      method: 'pca' or 'tsne'.
      examples: how many of them; all where there are fewer.
      layer: of the features, one of the objective's `feature_layers`.
      batch_size: over all devices; None is the training batch.

    Raises:
      ConfigError: fewer than 3 examples, or a split that can't be used (see `FeatureReader`).
    """

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
            raise ConfigError(f"{len(chosen)} examples of split {split!r} make no map; take more")
        self._source, self._method = Subset(source, chosen), method
        self._class_names, self._seed = data_info.class_names, seed
        self.protocol = (
            f"embedding_map: {method} of the {layer} features of {len(chosen):,} examples of "
            f"{split} ({len(source):,})"
        )

    def run(self, variables: dict[str, tuple]) -> dict[str, np.ndarray]:
        """A picture of each set of variables, by the method's name; one pass over the examples."""
        features = self._reader.read(variables, self._source)
        return {
            f"{prefix}{self._method}": draw_map(
                project(of_variables.values, self._method, self._seed),
                of_variables.labels,
                self._class_names,
            )
            for prefix, of_variables in features.items()
        }


def project(features: np.ndarray, method: str, seed: int) -> np.ndarray:
    """`[N, D]` -> `[N, 2]`."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if min(features.shape) < 2:
        raise ConfigError(
            f"evaluation: {features.shape[0]} features of {features.shape[1]} dimensions make no "
            "map; take another layer, or more examples"
        )
    if method == "pca":
        return PCA(2, svd_solver="full").fit_transform(features)
    # The perplexity is the usual one, and a third of the others where they are few.
    perplexity = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(2, init="pca", perplexity=perplexity, random_state=seed)
    # Its threads wait for each other by spinning: beside those that read data one is eight times as
    # fast as two, and the sums come in one order.
    with threadpool_limits(1):
        return tsne.fit_transform(features)


def draw_map(points: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> np.ndarray:
    """A scatter plot as uint8 `[700, 900, 3]`.

    Args:
      points: `[N, 2]`.
      labels: int `[N]`.
      class_names: of all K classes; up to `LEGEND` of them are named beside the map.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xticks=[], yticks=[])
    count, few = len(class_names), len(class_names) <= LEGEND
    # The colors of tab20 come in pairs that are alike: only where tab10 has too few.
    name = ("tab10" if count <= 10 else "tab20") if few else "turbo"
    colors = colormaps[name](range(count) if few else np.linspace(0, 1, count))
    axes.scatter(*points.T, s=14, c=colors[labels], linewidths=0)
    if few:
        marks = [axes.scatter([], [], color=color) for color in colors]
        legend = axes.legend(marks, class_names, loc="upper left", bbox_to_anchor=(1, 1))
        for text in legend.get_texts():
            text.set_parse_math(False)  # a class may be called '$'
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
