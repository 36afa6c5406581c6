"""SimCLR: two views of an image attract each other and repel the other images of the batch."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses
from imgcls.core.config import check_choice
from imgcls.objectives.joint_embedding import Embedding, JointEmbedding, check_whole_batch
from imgcls.objectives.objective import register_objective


@register_objective("simclr")
class SimCLR(JointEmbedding):
    """SimCLR (Chen et al. 2020, arXiv:2002.05709): NT-Xent on the projections of two views.

    The negatives come from the global batch, across all devices.

    Args:
      config, data_info: see `Pretraining`.
      temperature: divides the similarities; 0.1 on ImageNet, 0.5 on CIFAR-10 (B.7, B.9).
      hidden: hidden width of the projector.
      features: width of the projections.
      layers: dense layers of the projector; 2 in the paper, 3 in SimCLR v2 (arXiv:2006.10029).
      loss: 'nt_xent' (SimCLR), or 'info_nce', whose negatives are only the other views of the other
        examples, in both directions (MoCo v3, arXiv:2104.02057).
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`; unknown loss, or `config.accumulate` is not 1.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        temperature: float = 0.1,
        hidden: int = 2048,
        features: int = 128,
        layers: int = 2,
        loss: str = "nt_xent",
        probe: bool = False,
    ):
        super().__init__(config, data_info, probe, views="two")
        check_whole_batch(config)
        check_choice("objective.loss", loss, ("nt_xent", "info_nce"))
        self._loss = loss
        self._temperature = temperature
        projector = self.projector(hidden, features, layers, last_norm=True)
        self.network = Embedding(self.model, projector)

    def pretext_loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Metric `contrast_accuracy`: see the function."""
        features, (z1, z2), model_state = self.project(params, model_state, batch, rng)
        if self._loss == "nt_xent":
            loss = jnp.mean(losses.nt_xent(z1, z2, self._temperature))
        else:
            both = (
                losses.info_nce(*pair, None, self._temperature) for pair in ((z1, z2), (z2, z1))
            )
            loss = jnp.mean(sum(both)) / 2
        return loss, features, model_state, {"contrast_accuracy": contrast_accuracy(z1, z2)}


def contrast_accuracy(z1: jax.Array, z2: jax.Array) -> jax.Array:
    """Fraction of rows of z1 `[B, D]` whose most similar row of z2 `[B, D]` is their pair."""
    nearest = jnp.argmax(losses.l2_normalize(z1) @ losses.l2_normalize(z2).T, axis=-1)
    return jnp.mean(nearest == jnp.arange(len(z1)))
