"""Base of pre-training objectives, which train a backbone without a classifier.

A subclass sets `network`, a module with the submodule `backbone`, and defines `pretext_loss`, the
loss of a full batch.
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
    """Trains a backbone on a pretext task.

    A probe is a linear classifier trained on the features at the same time; its gradient does not
    reach the backbone. With a probe the objective `Classifies`, so that the evaluator
    `classification` and `predict` work.

    Args:
      config: complete config; `config.model` is the backbone.
      data_info: `DataInfo` of the training data.
      probe: whether to train a probe.
      views: required value of `config.data.views`.

    Raises:
      ConfigError: other views, `config.ema` is set, or the model does not fit the data.
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
                f"config.ema={config.ema}: objective {name!r} does not support EMA; leave the key "
                "out"
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
        """Returns (loss, features `[B, D]` of `image`, new model state, metrics); scalars."""
        raise NotImplementedError

    def init_network(self, rng: jax.Array, image: jax.Array) -> Mapping[str, Any]:
        """Initial variables of the network from an image `[1, H, W, C]`."""
        return self.network.init({"params": rng}, image, train=False)

    def init(self, rng: jax.Array, batch_spec) -> tuple:
        """Initial parameters and model state for images with the shape of the spec."""
        image = jnp.zeros((1, *batch_spec["image"].shape[1:]), jnp.float32)
        variables = dict(self.init_network(rng, image))
        params = variables.pop("params")
        if self._probe:
            features = jax.eval_shape(self.features, params, variables, {"image": image})
            kernel = jnp.zeros((features.shape[-1], self.num_outputs), jnp.float32)
            params = {**params, "probe": {"kernel": kernel, "bias": kernel[0]}}
        return params, variables

    def init_target(self, params, model_state):
        """None: there is no target."""
        return None

    def update_target(self, target, params, model_state, step):
        """None: there is no target."""
        return None

    def loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Sum of the pretext loss and the probe's loss; metrics of both.

        Metrics: `loss` (pretext), `feature_std`, those of `pretext_loss`, and with a probe
        `probe_loss` and `probe_accuracy`.
        """
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
        """Float32 features `[B, D]` in evaluation mode."""

        def encode(network, x):
            return network.backbone(x, train=False, features=True)

        variables = {"params": params, **model_state}
        return cast(jax.Array, self.network.apply(variables, batch["image"], method=encode))

    def eval_variables(self, state: TrainState) -> dict[str, tuple]:
        """The parameters; there is no moving average."""
        return {"": (state.params, state.model_state)}

    def scores(self, logits: jax.Array) -> jax.Array:
        """Probabilities `[B, K]` of the probe."""
        return jax.nn.sigmoid(logits) if self.task == "multi_label" else jax.nn.softmax(logits)

    def example_loss(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Loss `[B]` of the probe for each example."""
        return self._classify(logits, labels)

    def apply(self, params, model_state, *args, rng: jax.Array, **options) -> tuple:
        """Runs the network in training mode: (outputs, new model state)."""
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
