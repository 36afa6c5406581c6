"""Classification from labels: one of many classes, two classes, or any number at once."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses, metrics
from imgcls.config import check_choice
from imgcls.errors import ConfigError
from imgcls.objectives import create_backbone, moving_average, register_objective
from imgcls.state import TrainState


@register_objective("supervised")
class Supervised:
    """Cross-entropy against labels.

    Args:
      config: `config.model` is the model, `config.ema` the decay of the average kept beside it.
      data_info: classes and image shape of the data.
      loss: 'softmax' (one class of K), 'sigmoid' (K yes-or-no decisions: multi-label, or the
        binary cross-entropy of DeiT III on single labels) or 'binary' (two classes, one logit).
      label_smoothing: of the softmax cross-entropy.
      aux_weight: of the loss of each auxiliary classifier, where the model has any (0.3 in
        Szegedy et al. 2014, section 5).
      frozen: the model runs as in evaluation, so that batch statistics stay as they are and nothing
        is dropped; with `optim.multipliers` that spare the head alone, this is linear probing.

    Raises:
      ConfigError: a loss that does not fit the labels.
    """

    backbone = None
    feature_layers = ("backbone",)

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        loss: str = "softmax",
        label_smoothing: float = 0.0,
        aux_weight: float = 0.3,
        frozen: bool = False,
    ):
        check_choice("objective.loss", loss, ("softmax", "sigmoid", "binary"))
        classes = len(data_info.class_names)
        if data_info.multi_label and loss != "sigmoid":
            raise ConfigError(
                f"config.objective.loss={loss!r}: the labels are multi-label; use 'sigmoid'"
            )
        if loss == "binary" and classes != 2:
            raise ConfigError(
                f"config.objective.loss='binary': the data has {classes} classes, not 2; "
                "use 'softmax' or 'sigmoid'"
            )
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(
                f"config.objective.label_smoothing={label_smoothing}: must be from 0 to 1"
            )
        if label_smoothing and loss != "softmax":
            raise ConfigError(
                f"config.objective.label_smoothing: is of the softmax loss, not of {loss!r}"
            )
        if not 0 <= config.ema < 1:
            raise ConfigError(f"config.ema={config.ema}: must be from 0 to below 1")
        self.num_outputs = 1 if loss == "binary" else classes
        self.task = "multi_label" if data_info.multi_label else loss
        self._loss, self._smoothing, self._ema = loss, label_smoothing, config.ema
        self._aux_weight, self._frozen = aux_weight, frozen
        self.model = create_backbone(config, data_info, self.num_outputs)

    def init(self, rng: jax.Array, batch_spec) -> tuple:
        """Fresh parameters and model state, from one image of the spec's shape."""
        image = jnp.zeros((1, *batch_spec["image"].shape[1:]), jnp.float32)
        variables = dict(self.model.init({"params": rng}, image, train=False))
        return variables.pop("params"), variables

    def init_target(self, params, model_state):
        """The average starts at the parameters themselves."""
        return {"params": params, **model_state} if self._ema else None

    def loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Mean loss over the batch; metrics `loss` and `accuracy`."""
        del target, step
        logits, model_state = self.model.apply(
            {"params": params, **model_state},
            batch["image"],
            train=not self._frozen,
            rngs={"dropout": rng},
            mutable=[*model_state, "intermediates"],
        )
        auxiliary = model_state.pop("intermediates", {}).get("aux_logits", ())
        loss = self.example_loss(logits, batch["label"])
        for logits_of_one in auxiliary:
            loss += self._aux_weight * self.example_loss(logits_of_one, batch["label"])
        loss = losses.masked_mean(loss, batch.get("mask"))
        hits = metrics.accuracy(logits, batch["label"])
        measured = {"loss": loss, "accuracy": losses.masked_mean(hits, batch.get("mask"))}
        return loss, (dict(model_state), measured)

    def update_target(self, target, params, model_state, step):
        """Moves the average; batch statistics are averaged too, as they belong to the weights."""
        del step
        if target is None:
            return None
        return moving_average(target, {"params": params, **model_state}, self._ema)

    def features(self, params, model_state, batch, layer: str = "backbone") -> jax.Array:
        """Float32 features before the head, `[B, D]`."""
        del layer
        variables = {"params": params, **model_state}
        return self.model.apply(variables, batch["image"], train=False, features=True)

    def logits(self, params, model_state, batch) -> jax.Array:
        """Float32 logits `[B, K]` in evaluation mode."""
        return self.model.apply({"params": params, **model_state}, batch["image"], train=False)

    def scores(self, logits: jax.Array) -> jax.Array:
        """Probabilities `[B, K]` (`[B, 2]` for 'binary', so that every class has one)."""
        if self._loss == "softmax":
            return jax.nn.softmax(logits)
        scores = jax.nn.sigmoid(logits)
        return jnp.concatenate([1 - scores, scores], -1) if self._loss == "binary" else scores

    def example_loss(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Loss of every example, `[B]`."""
        if self._loss == "softmax":
            return losses.softmax_cross_entropy(logits, labels, self._smoothing)
        return losses.sigmoid_binary_cross_entropy(logits, labels)

    def eval_variables(self, state: TrainState) -> dict[str, tuple]:
        """The parameters and, under 'ema_', their average."""
        variables = {"": (state.params, state.model_state)}
        if state.target is not None:
            model_state = dict(state.target)
            variables["ema_"] = (model_state.pop("params"), model_state)
        return variables
