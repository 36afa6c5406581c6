"""What all objectives share that learn a backbone without a classifier, and a probe beside it.

Such an objective is a subclass that sets `network`, a module with the submodule `backbone`, and
writes `pretext_loss`. Its loss is of a whole batch, its model is the backbone.
"""

from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses
from imgcls.core.errors import ConfigError
from imgcls.core.state import TrainState
from imgcls.objectives import metrics as objectives_metrics
from imgcls.objectives.backbone import create_backbone


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

    def init_network(self, rng: jax.Array, image: jax.Array) -> Mapping[str, Any]:
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
        measured = {
            "loss": loss,
            "feature_std": objectives_metrics.feature_std(features),
            **measured,
        }
        if self._probe:
            logits = self._probe_logits(params, jax.lax.stop_gradient(features))
            probe_loss = jnp.mean(self._classify(logits, batch["label"]))
            hits = objectives_metrics.accuracy(logits, batch["label"])
            measured |= {"probe_loss": probe_loss, "probe_accuracy": jnp.mean(hits)}
            loss += probe_loss
        return loss, (dict(model_state), measured)

    def features(self, params, model_state, batch, layer: str = "backbone") -> jax.Array:
        """Float32 features in evaluation mode, `[B, D]`."""

        def encode(network, x):
            return network.backbone(x, train=False, features=True)

        variables = {"params": params, **model_state}
        return cast(jax.Array, self.network.apply(variables, batch["image"], method=encode))

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
