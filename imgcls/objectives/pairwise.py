"""Contrastive learning from pairs of images: similar pairs attract, others repel up to a margin."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses
from imgcls.objectives.joint_embedding import Embedding, JointEmbedding
from imgcls.objectives.objective import register_objective


@register_objective("pairwise")
class Pairwise(JointEmbedding):
    """Contrastive loss of pairs (Hadsell, Chopra & LeCun 2006, equation 4).

    `config.data.partners` defines the pairs.

    Args:
      config, data_info: see `Pretraining`.
      margin: distance from which a dissimilar pair has no loss.
      features: width of the linear projection.
      normalize: whether projections are scaled to length 1.
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        margin: float = 1.0,
        features: int = 128,
        normalize: bool = True,
        probe: bool = False,
    ):
        super().__init__(config, data_info, probe, views="pairs")
        self._margin, self._normalize = margin, normalize
        projector = self.projector(features, features, layers=1, last_norm=False)
        self.network = Embedding(self.model, projector)

    def pretext_loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Metric `pair_accuracy`: fraction of pairs classified by a distance of margin / 2."""
        features, projections, model_state = self.project(params, model_state, batch, rng)
        if self._normalize:
            projections = [losses.l2_normalize(z) for z in projections]
        a, b = projections
        loss = losses.contrastive_margin_loss(a, b, batch["same"], self._margin)
        near = jnp.linalg.norm(a - b, axis=-1) < self._margin / 2
        measured = {"pair_accuracy": jnp.mean(near == (batch["same"] == 1))}
        return jnp.mean(loss), features, model_state, measured
