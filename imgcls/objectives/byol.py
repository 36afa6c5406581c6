"""BYOL: a student predicts its moving average's (the teacher's) projection of another view."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses
from imgcls.core.config import check_choice
from imgcls.core.durations import to_steps
from imgcls.core.errors import ConfigError
from imgcls.objectives.backbone import moving_average
from imgcls.objectives.joint_embedding import Embedding, JointEmbedding
from imgcls.objectives.objective import register_objective

LOSSES = {"cosine": losses.byol_loss, "mse": losses.mse}
# Submodules of the teacher; only the student has a predictor.
TEACHER = ("backbone", "projector")


class Student(Embedding):
    """An `Embedding` and a predictor on its projections.

    Attributes:
      predictor: maps projections `[B, P]` to predictions `[B, P]`.
    """

    predictor: nn.Module

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x `[B, H, W, C]` -> features `[B, D]`, projections and predictions `[B, P]`; float32."""
        features, projections = super().__call__(x, train=train)
        return features, projections, self.predictor(projections, train=train)

    def teach(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> projections `[B, P]`, without the predictor."""
        return super().__call__(x, train=train)[1]


@register_objective("byol")
class BYOL(JointEmbedding):
    """BYOL (Grill et al. 2020, arXiv:2006.07733), symmetric in the views.

    The teacher's weights are a moving average of the student's, with decay
    tau(k) = 1 - (1 - tau) (cos(pi k / K) + 1) / 2 at step k of K (section 3.2). The teacher's
    BatchNorm uses batch statistics, as in training.

    Args:
      config, data_info: see `Pretraining`.
      tau: initial decay (0.996 for 1,000 epochs, 0.99 for 300: appendix J.1 and table 10).
      hidden: hidden width of projector and predictor (4096).
      features: width of the projections (256).
      loss: 'cosine' (2 - 2 cosine, equation 2) or 'mse' (without normalization).
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`; or an option is out of range.
    """

    pools_views = False

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        tau: float = 0.996,
        hidden: int = 4096,
        features: int = 256,
        loss: str = "cosine",
        probe: bool = False,
    ):
        super().__init__(config, data_info, probe, views="two")
        check_choice("objective.loss", loss, LOSSES)
        if not 0 <= tau <= 1:
            raise ConfigError(f"config.objective.tau={tau}: must be from 0 to 1")
        self._tau, self._loss = tau, LOSSES[loss]
        # Checkpoints of older versions have no num_examples; they are only evaluated, without tau.
        total = to_steps(config.total, config, data_info.num_examples, "total")
        self._total_steps = max(total, 1)
        heads = [self.projector(hidden, features, layers=2, last_norm=False) for _ in range(2)]
        self.network = Student(self.model, *heads)

    def init_target(self, params, model_state):
        """The teacher starts as the student."""
        return {key: params[key] for key in TEACHER}

    def update_target(self, target, params, model_state, step):
        """Moves the teacher toward the student."""
        new = {key: params[key] for key in TEACHER}
        return moving_average(target, new, self.decay(step))

    def decay(self, step: jax.Array) -> jax.Array:
        """tau(k) at step k (section 3.2), float32 scalar."""
        progress = jnp.minimum(step / self._total_steps, 1.0)
        return 1.0 - (1.0 - self._tau) * (jnp.cos(math.pi * progress) + 1.0) / 2.0

    def pretext_loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Loss of each view's prediction against the teacher's projection of the other view."""
        student_rng, teacher_rng = jax.random.split(rng)
        outputs, new_state = self.apply_views(params, model_state, batch, student_rng)
        projections, _ = self.apply_views(target, model_state, batch, teacher_rng, method="teach")
        (features, _, p1), (_, _, p2) = outputs
        z1, z2 = jax.lax.stop_gradient(projections)
        loss = jnp.mean(self._loss(p1, z2) + self._loss(p2, z1))
        return loss, features, new_state, {"tau": self.decay(step)}
