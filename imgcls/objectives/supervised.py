"""Supervised classification: single-label, binary or multi-label."""

import functools
import inspect
from typing import cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses
from imgcls.core.config import check_choice
from imgcls.core.errors import ConfigError
from imgcls.core.state import TrainState
from imgcls.losses.registry import Loss, classification_losses
from imgcls.objectives import metrics as objectives_metrics
from imgcls.objectives.backbone import clip_options, create_backbone, moving_average
from imgcls.objectives.class_weights import create_class_weights
from imgcls.objectives.objective import register_objective


@register_objective("supervised")
class Supervised:
    """Classification with a loss of logits and labels.

    Args:
      config: complete config; `config.model` is the model, `config.ema` the decay of the moving
        average of its variables (0: no average), and `config.ema_warmup` its warm-up.
      data_info: `DataInfo` of the training data.
      loss: registered loss of logits and labels: 'softmax' (one class), 'sigmoid' (K binary
        decisions: multi-label, or the binary cross entropy of DeiT III on single labels), 'focal'
        and 'asymmetric' (K binary decisions, easy ones count less), 'binary' (two classes, one
        logit), or 'auto': 'sigmoid' for multi-label data, otherwise 'softmax'.
      class_weights: None, 'auto' or `{class name: weight}`, see `create_class_weights`. They apply
        to the training loss only: to the examples of each class ('softmax', 'binary'; mixed labels
        have the expected weight), or to the positives of each class (the other losses).
      aux_weight: weight of the loss of each auxiliary classifier, if the model has any (0.3 in
        Szegedy et al. 2014, arXiv:1409.4842, section 5).
      frozen: whether the model runs in evaluation mode: batch statistics do not change, and there
        is no dropout. With `optim.multipliers` that train only the head, this is linear probing.
      **loss_options: options of the loss, such as `label_smoothing` of 'softmax' or `alpha` of
        'focal': see `python -m imgcls.list losses`.

    Raises:
      ConfigError: the loss does not fit the labels, or an option is unknown, out of range or of
        another loss.
    """

    backbone = None
    feature_layers = ("backbone",)

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        loss: str = "softmax",
        class_weights=None,
        aux_weight: float = 0.3,
        frozen: bool = False,
        **loss_options,
    ):
        registered = classification_losses()
        check_choice("objective.loss", loss, ("auto", *registered))
        if loss == "auto":
            loss = "sigmoid" if data_info.multi_label else "softmax"
        entry = registered[loss]
        _check_labels(loss, entry, data_info)
        _check_options(loss, loss_options, registered)
        if not 0 <= config.ema < 1:
            raise ConfigError(f"config.ema={config.ema}: must be from 0 to below 1")
        self.num_outputs = 1 if entry.task == "binary" else len(data_info.class_names)
        self.task = "multi_label" if data_info.multi_label else entry.task
        self._loss_function = functools.partial(entry.function, **loss_options)
        # Class weights of K binary decisions apply to the positives.
        self._weights_positives = entry.task == "sigmoid"
        weighted = class_weights is not None
        if weighted and self._weights_positives and not entry.takes_pos_weight:
            raise ConfigError(
                f"config.objective.class_weights: the loss {loss!r} has no argument pos_weight; "
                "leave the key out"
            )
        self._weights = create_class_weights(class_weights, data_info, self._weights_positives)
        self._logits_task, self._ema = entry.task, config.ema
        self._warms_up = config.ema_warmup is not False
        self._aux_weight, self._frozen = aux_weight, frozen
        self.model = create_backbone(config, data_info, self.num_outputs)

    def init(self, rng: jax.Array, batch_spec) -> tuple:
        """Initial parameters and model state for images with the shape of the spec."""
        image = jnp.zeros((1, *batch_spec["image"].shape[1:]), jnp.float32)
        variables = dict(self.model.init({"params": rng}, image, train=False))
        return variables.pop("params"), variables

    def init_target(self, params, model_state):
        """Moving average of the variables, which starts at their initial values; None if off."""
        return {"params": params, **model_state} if self._ema else None

    def loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Mean loss; metrics `loss` and `accuracy`, or `exact_match` for multi-label data."""
        del target, step
        logits, new_state = self.model.apply(
            {"params": params, **model_state},
            batch["image"],
            train=not self._frozen,
            rngs={"dropout": rng},
            mutable=[*model_state, "intermediates"],
            **clip_options(self.model, batch),
        )
        new_state = dict(new_state)
        auxiliary = new_state.pop("intermediates", {}).get("aux_logits", ())
        loss = self._weighted_loss(logits, batch["label"])
        for aux_logits in auxiliary:
            loss += self._aux_weight * self._weighted_loss(aux_logits, batch["label"])
        loss = losses.masked_mean(loss, batch.get("mask"))
        name, hits = self._hits(logits, batch["label"])
        measured = {"loss": loss, name: losses.masked_mean(hits, batch.get("mask"))}
        return loss, (new_state, measured)

    def update_target(self, target, params, model_state, step):
        """Updates the moving average of parameters and batch statistics."""
        if target is None:
            return None
        return moving_average(target, {"params": params, **model_state}, self.decay(step))

    def decay(self, step: jax.Array) -> jax.typing.ArrayLike:
        """Decay of the moving average after `step` updates, a scalar.

        With warm-up min(ema, (1 + step) / (10 + step)), as in TensorFlow's
        `ExponentialMovingAverage` with `num_updates`.
        """
        if not self._warms_up:
            return self._ema
        return jnp.minimum(self._ema, (1 + step) / (10 + step))

    def features(self, params, model_state, batch, layer: str = "backbone") -> jax.Array:
        """Float32 features `[B, D]` before the head, in evaluation mode."""
        del layer
        variables = {"params": params, **model_state}
        options = clip_options(self.model, batch)
        features = self.model.apply(
            variables, batch["image"], train=False, features=True, **options
        )
        return cast(jax.Array, features)

    def logits(self, params, model_state, batch) -> jax.Array:
        """Float32 logits `[B, K]` in evaluation mode."""
        variables = {"params": params, **model_state}
        options = clip_options(self.model, batch)
        logits = self.model.apply(variables, batch["image"], train=False, **options)
        return cast(jax.Array, logits)

    def scores(self, logits: jax.Array) -> jax.Array:
        """Probabilities `[B, K]` of the classes; `[B, 2]` for 'binary'."""
        if self._logits_task == "softmax":
            return jax.nn.softmax(logits)
        scores = jax.nn.sigmoid(logits)
        return (
            jnp.concatenate([1 - scores, scores], -1) if self._logits_task == "binary" else scores
        )

    def example_loss(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Loss `[B]` of each example without class weights, as in evaluation."""
        return self._loss_function(logits, labels)

    def eval_variables(self, state: TrainState) -> dict[str, tuple]:
        """The variables and, under 'ema_', their moving average."""
        variables = {"": (state.params, state.model_state)}
        if state.target is not None:
            model_state = dict(state.target)
            variables["ema_"] = (model_state.pop("params"), model_state)
        return variables

    def _weighted_loss(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Loss `[B]` of each example with class weights, as in training."""
        if self._weights is None:
            return self.example_loss(logits, labels)
        weights = jnp.asarray(self._weights, logits.dtype)
        if self._weights_positives:
            return self._loss_function(logits, labels, pos_weight=weights)
        return self.example_loss(logits, labels) * self._example_weights(weights, labels)

    def _example_weights(self, weights: jax.Array, labels: jax.Array) -> jax.Array:
        """Weight `[B]` of each example; for soft labels the expectation over the classes."""
        if self._logits_task == "binary":
            positive = labels.reshape(len(labels))
            return weights[0] * (1 - positive) + weights[1] * positive
        return weights[labels] if labels.ndim == 1 else labels @ weights

    def _hits(self, logits: jax.Array, labels: jax.Array) -> tuple[str, jax.Array]:
        """Name of the metric, as in evaluation, and float32 `[B]`: 1 for correct examples."""
        if self.task != "multi_label":
            return "accuracy", objectives_metrics.accuracy(logits, labels)
        correct = (logits > 0) == (labels > 0.5)
        return "exact_match", jnp.all(correct, axis=-1).astype(jnp.float32)


def _check_labels(name: str, loss: Loss, data_info) -> None:
    """Raises a ConfigError unless the loss fits the labels."""
    if data_info.multi_label and loss.task != "sigmoid":
        valid = [n for n, other in classification_losses().items() if other.task == "sigmoid"]
        valid.sort(key=lambda n: n != "sigmoid")
        raise ConfigError(
            f"config.objective.loss={name!r}: the labels are multi-label; use "
            f"{', '.join(map(repr, valid[:-1]))} or {valid[-1]!r}"
        )
    classes = len(data_info.class_names)
    if classes < 2 and not data_info.multi_label:
        only = ", ".join(map(repr, data_info.class_names))
        raise ConfigError(
            f"config.data.source: the data has only one class, {only}; a classifier needs two: add "
            "images of what is not of this class, in a class of their own"
        )
    if loss.task == "binary" and classes != 2:
        raise ConfigError(
            f"config.objective.loss={name!r}: the data has {classes} classes, not 2; "
            "use 'softmax' or 'sigmoid'"
        )


def _check_options(name: str, options: dict, registered: dict[str, Loss]) -> None:
    """Raises a ConfigError if an option is of another loss, or a value out of range."""
    owners = {o: n for n, other in registered.items() for o in other.options}
    own = [*inspect.signature(Supervised).parameters][2:-1]
    for option, value in options.items():
        check_choice(f"objective.{option}", option, [*own, *owners])
        if option not in registered[name].options:
            owner = owners[option]
            raise ConfigError(
                f"config.objective.{option}: belongs to the loss {owner!r}, not to {name!r}; leave "
                f"it out, or set objective.loss={owner!r}"
            )
        # alpha=None is valid: the focal loss without alpha.
        if option in registered[name].ranges and not (value is None and option == "alpha"):
            _check_range(option, value, *registered[name].ranges[option])


def _check_range(name: str, value, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"config.objective.{name}={value!r}: must be from {low} to {high}")
