"""What all objectives share that learn a backbone without a classifier, and a probe beside it.

Such an objective is a subclass that sets `network`, a module with the submodule `backbone`, and
writes `pretext_loss`. Its loss is of a whole batch, its model is the backbone.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses, metrics
from imgcls.errors import ConfigError
from imgcls.models.heads import Projector
from imgcls.objectives import create_backbone
from imgcls.state import TrainState


class Pretraining:
    """A backbone that learns from a pretext task.

    With a probe, a linear classifier learns the labels from the features meanwhile. No gradient
    goes from it into the backbone. It makes the objective one that classifies, which the evaluator
    `classification` and `predict` then use.

    Args:
      config: `config.model` is the backbone.
      data_info: classes and image shape of the data.
      probe: whether there is one.
      views: what `config.data.views` must be.

    Raises:
      ConfigError: other views, an average of the parameters, or a model that doesn't fit the data.
    """

    backbone = "backbone"
    feature_layers: tuple[str, ...] = ("backbone",)
    network: nn.Module

    def __init__(self, config: ConfigDict, data_info, probe: bool, views: str = "one"):
        name = config.objective.name
        if config.data.views != views:
            raise ConfigError(
                f"config.data.views={config.data.views!r}: objective {name!r} takes {views!r}; "
                f"write data.views={views!r}"
            )
        if config.ema:
            raise ConfigError(
                f"config.ema={config.ema}: objective {name!r} keeps no average of the parameters; "
                "leave the key out"
            )
        self.num_outputs = len(data_info.class_names)
        self.model = create_backbone(config, data_info, self.num_outputs)
        self._classify = (
            losses.sigmoid_binary_cross_entropy
            if data_info.multi_label
            else losses.softmax_cross_entropy
        )
        self.task = "multi_label" if data_info.multi_label else "softmax"
        self._probe = probe
        if probe:
            self.logits = self._logits

    def pretext_loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """(scalar loss, features `[B, D]` of `image`, new model state, metrics)."""
        raise NotImplementedError

    def init_network(self, rng: jax.Array, image: jax.Array) -> dict:
        """Fresh variables of the network; `image` is `[1, H, W, C]`."""
        return self.network.init({"params": rng}, image, train=False)

    def init(self, rng: jax.Array, batch_spec) -> tuple:
        """Fresh parameters and model state, from one image of the spec's shape."""
        image = jnp.zeros((1, *batch_spec["image"].shape[1:]), jnp.float32)
        variables = dict(self.init_network(rng, image))
        params = variables.pop("params")
        if self._probe:
            features = jax.eval_shape(self.features, params, variables, {"image": image})
            kernel = jnp.zeros((features.shape[-1], self.num_outputs), jnp.float32)
            params = {**params, "probe": {"kernel": kernel, "bias": kernel[0]}}
        return params, variables

    def init_target(self, params, model_state):
        """There is none."""
        return None

    def update_target(self, target, params, model_state, step):
        """There is none."""
        return None

    def loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """The pretext task's loss and, of the probe, its own; metrics of both."""
        loss, features, model_state, measured = self.pretext_loss(
            params, model_state, target, batch, rng, step
        )
        measured = {"loss": loss, "feature_std": metrics.feature_std(features), **measured}
        if self._probe:
            logits = self._probe_logits(params, jax.lax.stop_gradient(features))
            probe_loss = jnp.mean(self._classify(logits, batch["label"]))
            hits = metrics.accuracy(logits, batch["label"])
            measured |= {"probe_loss": probe_loss, "probe_accuracy": jnp.mean(hits)}
            loss += probe_loss
        return loss, (dict(model_state), measured)

    def features(self, params, model_state, batch, layer: str = "backbone") -> jax.Array:
        """Float32 features in evaluation mode, `[B, D]`."""

        def encode(network, x):
            return network.backbone(x, train=False, features=True)

        return self.network.apply({"params": params, **model_state}, batch["image"], method=encode)

    def eval_variables(self, state: TrainState) -> dict[str, tuple]:
        """The parameters."""
        return {"": (state.params, state.model_state)}

    def scores(self, logits: jax.Array) -> jax.Array:
        """The probe's probabilities `[B, K]`."""
        return jax.nn.sigmoid(logits) if self.task == "multi_label" else jax.nn.softmax(logits)

    def example_loss(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """The probe's loss of every example, `[B]`."""
        return self._classify(logits, labels)

    def apply(self, params, model_state, *args, rng: jax.Array, **options) -> tuple:
        """The network in training: its outputs and the new model state."""
        return self.network.apply(
            {"params": params, **model_state},
            *args,
            train=True,
            rngs={"dropout": rng},
            mutable=list(model_state),
            **options,
        )

    def _logits(self, params, model_state, batch) -> jax.Array:
        return self._probe_logits(params, self.features(params, model_state, batch))

    def _probe_logits(self, params, features: jax.Array) -> jax.Array:
        return features @ params["probe"]["kernel"] + params["probe"]["bias"]


class Embedding(nn.Module):
    """A backbone and a projector on its features.

    Attributes:
      backbone: a model of the registry.
      projector: on its features.
    """

    backbone: nn.Module
    projector: nn.Module

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """x `[B, H, W, C]` -> features `[B, D]`, projections `[B, P]`; float32."""
        features = self.backbone(x, train=train, features=True)
        return features, self.projector(features, train=train)


class JointEmbedding(Pretraining):
    """Learns by comparing the projections of pictures; `network` is an `Embedding`.

    BatchNorm's groups are of one view each. Where it takes the whole batch as one, that is the
    batch of all views, unless `pools_views` is false.
    """

    feature_layers = ("backbone", "projector")
    pools_views = True

    def features(self, params, model_state, batch, layer: str = "backbone") -> jax.Array:
        """Float32 features or projections in evaluation mode, `[B, D]`."""
        if layer == "backbone":
            return super().features(params, model_state, batch)

        def encode(network, x):
            return network.projector(network.backbone(x, train=False, features=True), train=False)

        return self.network.apply({"params": params, **model_state}, batch["image"], method=encode)

    def projector(self, hidden: int, features: int, layers: int, last_norm: bool) -> Projector:
        """A projector whose BatchNorm is of the backbone's virtual batches."""
        return Projector(hidden, features, layers, last_norm, self.virtual_batch_size)

    @property
    def virtual_batch_size(self) -> int | None:
        """Of the backbone's BatchNorm; None of a backbone without any."""
        return getattr(self.model, "virtual_batch_size", None)

    def project(self, params, model_state, batch, rng) -> tuple[jax.Array, list, dict]:
        """(features of `image`, projections of every picture of the batch, new model state)."""
        outputs, model_state = self.apply_views(params, model_state, batch, rng)
        features, projections = zip(*outputs, strict=True)
        return features[0], list(projections), model_state

    def apply_views(self, params, model_state, batch, rng, **options) -> tuple[list, dict]:
        """The network's outputs for `image`, `image2`, ... of a batch, and its new state."""
        images = [batch[key] for key in ("image", "image2", "image3") if key in batch]
        group = self.virtual_batch_size
        if group is None and not self.pools_views:
            passes = [
                self.apply(params, model_state, x, rng=jax.random.fold_in(rng, i), **options)
                for i, x in enumerate(images)
            ]
            outputs, states = zip(*passes, strict=True)
            return list(outputs), jax.tree.map(lambda *s: sum(s) / len(s), *states)
        x = interleave(images, group)
        joined, state = self.apply(params, model_state, x, rng=rng, **options)
        leaves, structure = jax.tree.flatten(joined)
        parts = zip(*(separate(leaf, len(images), group) for leaf in leaves), strict=True)
        return [jax.tree.unflatten(structure, part) for part in parts], state


def interleave(views: Sequence[jax.Array], group: int | None) -> jax.Array:
    """V arrays `[B, ...]` -> `[V * B, ...]`: a BatchNorm group of each in turn.

    So each group has statistics of its own view, and every row stays on its device. Without
    groups, one row of each in turn.
    """
    parts = [view.reshape(-1, group or 1, *view.shape[1:]) for view in views]
    return jnp.stack(parts, axis=1).reshape(-1, *views[0].shape[1:])


def separate(x: jax.Array, count: int, group: int | None) -> list[jax.Array]:
    """The inverse of `interleave` for `count` arrays."""
    parts = x.reshape(-1, count, group or 1, *x.shape[1:])
    return [parts[:, i].reshape(-1, *x.shape[1:]) for i in range(count)]


def check_whole_batch(config: ConfigDict) -> None:
    """Raises a ConfigError if the batch is split: its other examples are the negatives."""
    if config.accumulate != 1:
        raise ConfigError(
            f"config.accumulate={config.accumulate}: objective {config.objective.name!r} compares "
            "all examples of a batch, so that it can't be split; set accumulate=1, and "
            "model.remat=True to save memory"
        )


def check_class_labels(labels: jax.Array, name: str) -> None:
    """Raises a ConfigError unless labels are classes `[B]`."""
    if labels.ndim != 1:
        raise ConfigError(
            f"config.objective.name={name!r}: goes by one class per picture; multi-label data and "
            "data.batch_transform with mixed labels don't fit"
        )
