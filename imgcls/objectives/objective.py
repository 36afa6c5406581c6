"""Protocols of objectives, and their registry."""

from typing import Any, Protocol, runtime_checkable

import jax

from imgcls.core.registry import Registry, Signature

OBJECTIVES: Registry[type] = Registry(
    "objective", "imgcls.objectives", describe=lambda part: Signature(part, 2)
)
register_objective = OBJECTIVES.register


class Objective(Protocol):
    """What a training step minimizes: the interface that the training loop uses.

    A new objective is a class registered by name, called with `(config, data_info, **options)`
    where the options are those of `config.objective`. Pre-training objectives, which train a
    backbone without a classifier, subclass `pretraining.Pretraining` and define only their loss.
    Batches contain normalized images, float32 `[B, ..., C]`.

    Attributes:
      model: the backbone, whose weights are used after training.
      backbone: key of the model's variables in `params` and in each collection of `model_state`;
        None if all variables are the model's.
      num_outputs: number of classes K of the labels that batch transforms mix.
      feature_layers: values of `layer` that `features` accepts.
    """

    model: Any
    backbone: str | None
    num_outputs: int
    feature_layers: tuple[str, ...]

    def init(self, rng: jax.Array, batch_spec) -> tuple:
        """Returns initial (params, model_state) for batches with the shapes of `batch_spec`."""
        ...

    def init_target(self, params, model_state) -> Any:
        """Returns the initial target, a moving average (EMA, teacher), or None."""
        ...

    def loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Returns (loss, (new model_state, metrics)) of a batch; loss and metrics are scalars."""
        ...

    def update_target(self, target, params, model_state, step) -> Any:
        """Returns the target after an update of the parameters."""
        ...

    def features(self, params, model_state, batch, layer: str = "backbone") -> jax.Array:
        """Returns float32 features `[B, D]` in evaluation mode."""
        ...

    def eval_variables(self, state) -> dict[str, tuple]:
        """Returns the variables to evaluate, `{prefix of metrics: (params, model_state)}`."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """An objective with logits, from its head or a probe.

    Attributes:
      task: 'softmax', 'binary', 'sigmoid' or 'multi_label'.
    """

    task: str

    def logits(self, params, model_state, batch) -> jax.Array:
        """Returns float32 logits `[B, K]` in evaluation mode."""
        ...

    def scores(self, logits: jax.Array) -> jax.Array:
        """Returns the probabilities `[B, K]` of the classes."""
        ...

    def example_loss(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns the loss `[B]` of each example."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """An objective that restores a corrupted image."""

    def reconstruct(self, params, model_state, batch, rng) -> dict[str, jax.Array]:
        """Returns images `[B, H, W, C]`, normalized: "input", "masked" and "output"."""
        ...


def list_objectives() -> list[str]:
    """Names of registered objectives, sorted."""
    return list(OBJECTIVES)
