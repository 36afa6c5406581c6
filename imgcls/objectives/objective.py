"""What an objective is, as protocols, and the registry of objectives."""

from typing import Any, Protocol, runtime_checkable

import jax

from imgcls.core.registry import Registry, Signature

OBJECTIVES: Registry[type] = Registry(
    "objective", "imgcls.objectives", describe=lambda part: Signature(part, 2)
)
register_objective = OBJECTIVES.register


class Objective(Protocol):
    """What a training step minimizes. Training knows an objective by this alone.

    A new objective registers its class by name; the class takes `(config, data_info, **options)`
    with the options of `config.objective`. One that learns a backbone without a classifier
    subclasses `pretraining.Pretraining` and writes its loss alone. Images reach it normalized,
    float32 `[B, ..., C]`.

    Attributes:
      model: the model whose weights outlive the objective.
      backbone: the key of the model's variables in `params` and in each collection of
        `model_state`; None if all of the variables are the model's.
      num_outputs: K of the labels that batch transforms mix.
      feature_layers: what `features` accepts as `layer`.
    """

    model: Any
    backbone: str | None
    num_outputs: int
    feature_layers: tuple[str, ...]

    def init(self, rng: jax.Array, batch_spec) -> tuple:
        """Returns fresh (params, model_state) for batches of the shapes of `batch_spec`."""
        ...

    def init_target(self, params, model_state) -> Any:
        """Returns the slow copy that the objective keeps (EMA, teacher), or None."""
        ...

    def loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Returns (loss, (model_state, metrics)) of a batch: scalars, and the model's new state."""
        ...

    def update_target(self, target, params, model_state, step) -> Any:
        """Returns the slow copy after an update of the parameters."""
        ...

    def features(self, params, model_state, batch, layer: str = "backbone") -> jax.Array:
        """Returns features `[B, D]` for probes."""
        ...

    def eval_variables(self, state) -> dict[str, tuple]:
        """Returns `{prefix: (params, model_state)}`, the variables that evaluators look at."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """An objective that has logits, of its head or of a probe.

    Attributes:
      task: 'softmax', 'binary', 'sigmoid' or 'multi_label'.
    """

    task: str

    def logits(self, params, model_state, batch) -> jax.Array:
        """Returns float32 logits in evaluation mode, `[B, K]`."""
        ...

    def scores(self, logits: jax.Array) -> jax.Array:
        """Returns the probabilities of the classes, `[B, K]`."""
        ...

    def example_loss(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns the loss of every example, `[B]`."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """An objective that restores a corrupted image."""

    def reconstruct(self, params, model_state, batch, rng) -> dict[str, jax.Array]:
        """Returns images `[B, H, W, C]`, normalized: "input", "masked" and "output"."""
        ...


def list_objectives() -> list[str]:
    """Registered names, sorted."""
    return list(OBJECTIVES)
