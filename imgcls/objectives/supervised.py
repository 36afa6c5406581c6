"""Classification from labels: one of many classes, two classes, or any number at once."""

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
from imgcls.objectives.backbone import create_backbone, moving_average
from imgcls.objectives.class_weights import create_class_weights
from imgcls.objectives.objective import register_objective


@register_objective("supervised")
class Supervised:
    """Cross-entropy against labels.

    Args:
      config: `config.model` is the model, `config.ema` the decay of the average kept beside it.
      data_info: classes and image shape of the data.
      loss: a registered loss of logits and labels: 'softmax' (one class), 'sigmoid' (K decisions:
        multi-label, or the binary cross-entropy of DeiT III on single labels), 'focal'
        and 'asymmetric' (such decisions, where easy ones count less), 'binary' (two classes, one
        logit), or 'auto': 'sigmoid' for multi-label data, else 'softmax'.
      class_weights: None, 'auto' or `{class name: weight}`: see `create_class_weights`. They act on
        the training loss alone: on the examples of each class ('softmax', 'binary'; by the expected
        weight where labels are mixed), or on the yes of each class (the others).
      aux_weight: of the loss of each auxiliary classifier, where the model has any (0.3 in
        Szegedy et al. 2014, section 5).
      frozen: the model runs as in evaluation, so that batch statistics stay as they are and nothing
        is dropped; with `optim.multipliers` that spare the head alone, this is linear probing.
      **loss_options: options of the loss, such as `label_smoothing` of 'softmax', `alpha` of
        'focal': see `python -m imgcls.list losses`.

    Raises:
      ConfigError: a loss that does not fit the labels, or an option of another loss.
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
        known = classification_losses()
        check_choice("objective.loss", loss, ("auto", *known))
        if loss == "auto":
            loss = "sigmoid" if data_info.multi_label else "softmax"
        entry = known[loss]
        _check_labels(loss, entry, data_info)
        _check_options(loss, loss_options, known)
        if not 0 <= config.ema < 1:
            raise ConfigError(f"config.ema={config.ema}: must be from 0 to below 1")
        self.num_outputs = 1 if entry.task == "binary" else len(data_info.class_names)
        self.task = "multi_label" if data_info.multi_label else entry.task
        self._loss_of = functools.partial(entry.function, **loss_options)
        # K yes-or-no decisions, whose positives can be weighted.
        self._decides = entry.task == "sigmoid"
        if class_weights is not None and self._decides and not entry.takes_pos_weight:
            raise ConfigError(
                f"config.objective.class_weights: the loss {loss!r} has no argument pos_weight; "
                "leave the key out"
            )
        self._weights = create_class_weights(class_weights, data_info, self._decides)
        self._logits_task, self._ema = entry.task, config.ema
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
        """Mean loss over the batch; metrics `loss` and `accuracy`, multi-label `exact_match`."""
        del target, step
        logits, new_state = self.model.apply(
            {"params": params, **model_state},
            batch["image"],
            train=not self._frozen,
            rngs={"dropout": rng},
            mutable=[*model_state, "intermediates"],
        )
        new_state = dict(new_state)
        auxiliary = new_state.pop("intermediates", {}).get("aux_logits", ())
        loss = self._weighted_loss(logits, batch["label"])
        for logits_of_one in auxiliary:
            loss += self._aux_weight * self._weighted_loss(logits_of_one, batch["label"])
        loss = losses.masked_mean(loss, batch.get("mask"))
        name, hits = self._hits(logits, batch["label"])
        measured = {"loss": loss, name: losses.masked_mean(hits, batch.get("mask"))}
        return loss, (new_state, measured)

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
        features = self.model.apply(variables, batch["image"], train=False, features=True)
        return cast(jax.Array, features)

    def logits(self, params, model_state, batch) -> jax.Array:
        """Float32 logits `[B, K]` in evaluation mode."""
        variables = {"params": params, **model_state}
        return cast(jax.Array, self.model.apply(variables, batch["image"], train=False))

    def scores(self, logits: jax.Array) -> jax.Array:
        """Probabilities `[B, K]` (`[B, 2]` for 'binary', so that every class has one)."""
        if self._logits_task == "softmax":
            return jax.nn.softmax(logits)
        scores = jax.nn.sigmoid(logits)
        return (
            jnp.concatenate([1 - scores, scores], -1) if self._logits_task == "binary" else scores
        )

    def example_loss(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Loss of every example, `[B]`, as evaluation reports it: without class weights."""
        return self._loss_of(logits, labels)

    def eval_variables(self, state: TrainState) -> dict[str, tuple]:
        """The parameters and, under 'ema_', their average."""
        variables = {"": (state.params, state.model_state)}
        if state.target is not None:
            model_state = dict(state.target)
            variables["ema_"] = (model_state.pop("params"), model_state)
        return variables

    def _weighted_loss(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Loss of every example, `[B]`, as training minimises it: with class weights."""
        if self._weights is None:
            return self.example_loss(logits, labels)
        weights = jnp.asarray(self._weights, logits.dtype)
        if self._decides:
            return self._loss_of(logits, labels, pos_weight=weights)
        return self.example_loss(logits, labels) * self._expected(weights, labels)

    def _expected(self, weights: jax.Array, labels: jax.Array) -> jax.Array:
        """The weight of every example, `[B]`: expected over the classes of a soft label."""
        if self._logits_task == "binary":
            yes = labels.reshape(len(labels))
            return weights[0] * (1 - yes) + weights[1] * yes
        return weights[labels] if labels.ndim == 1 else labels @ weights

    def _hits(self, logits: jax.Array, labels: jax.Array) -> tuple[str, jax.Array]:
        """A metric's name, as of the evaluation, and 1 where an example is right, `[B]`."""
        if self.task != "multi_label":
            return "accuracy", objectives_metrics.accuracy(logits, labels)
        right = (logits > 0) == (labels > 0.5)
        return "exact_match", jnp.all(right, axis=-1).astype(jnp.float32)


def _check_labels(name: str, loss: Loss, data_info) -> None:
    """Raises a ConfigError unless the loss fits the labels."""
    if data_info.multi_label and loss.task != "sigmoid":
        fit = [n for n, other in classification_losses().items() if other.task == "sigmoid"]
        fit.sort(key=lambda n: n != "sigmoid")
        raise ConfigError(
            f"config.objective.loss={name!r}: the labels are multi-label; use "
            f"{', '.join(map(repr, fit[:-1]))} or {fit[-1]!r}"
        )
    classes = len(data_info.class_names)
    if loss.task == "binary" and classes != 2:
        raise ConfigError(
            f"config.objective.loss={name!r}: the data has {classes} classes, not 2; "
            "use 'softmax' or 'sigmoid'"
        )


def _check_options(name: str, options: dict, known: dict[str, Loss]) -> None:
    """Raises a ConfigError at an option of another loss, or a value out of its range."""
    owners = {o: n for n, other in known.items() for o in other.options}
    own = [*inspect.signature(Supervised).parameters][2:-1]
    for option, value in options.items():
        check_choice(f"objective.{option}", option, [*own, *owners])
        if option not in known[name].options:
            owner = owners[option]
            raise ConfigError(
                f"config.objective.{option}: is of the {owner} loss, not of {name!r}; leave it "
                f"out, or set objective.loss={owner!r}"
            )
        # None is a value of its own, such as a focal loss without alpha.
        if option in known[name].ranges and not (value is None and option == "alpha"):
            _check_range(option, value, *known[name].ranges[option])


def _check_range(name: str, value, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"config.objective.{name}={value!r}: must be from {low} to {high}")
