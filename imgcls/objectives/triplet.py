"""Triplet loss: an anchor is closer to a positive than to a negative, by a margin."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses
from imgcls.core.config import check_choice
from imgcls.objectives.joint_embedding import (
    Embedding,
    JointEmbedding,
    check_class_labels,
    check_whole_batch,
)
from imgcls.objectives.objective import register_objective

MINING = ("given", *losses.MINING)


@register_objective("triplet")
class Triplet(JointEmbedding):
    """Triplet loss of projections of length 1 (FaceNet: Schroff et al. 2015, arXiv:1503.03832).

    Args:
      config, data_info: see `Pretraining`.
      mining: source of triplets: 'given' (by the data, data.views='triplets'), or mined from the
        batch by label: 'all', 'hard' (Hermans et al. 2017, arXiv:1703.07737, equation 5) or
        'semi-hard' (FaceNet, section 3.2).
      margin: required difference of the distances (0.2 in FaceNet).
      squared: whether distances are squared (FaceNet) or not (Hermans et al.).
      features: width of the linear projection (128 in FaceNet).
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`; unknown mining, or mining with `config.accumulate` not 1.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        mining: str = "semi-hard",
        margin: float = 0.2,
        squared: bool = True,
        features: int = 128,
        probe: bool = False,
    ):
        check_choice("objective.mining", mining, MINING)
        views = "triplets" if mining == "given" else "one"
        super().__init__(config, data_info, probe, views=views)
        if mining != "given":
            check_whole_batch(config)
        self._mining, self._margin, self._squared = mining, margin, squared
        projector = self.projector(features, features, layers=1, last_norm=False)
        self.network = Embedding(self.model, projector)

    def pretext_loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Mean loss over the triplets of the data, or over the anchors with mined triplets."""
        features, projections, model_state = self.project(params, model_state, batch, rng)
        z = [losses.l2_normalize(projection) for projection in projections]
        if self._mining == "given":
            loss = jnp.mean(losses.triplet_loss(*z, self._margin, self._squared))
            return loss, features, model_state, {}
        check_class_labels(batch["label"], "triplet")
        options = (self._margin, self._mining, self._squared)
        loss, valid = losses.mined_triplet_loss(z[0], batch["label"], *options)
        return losses.masked_mean(loss, valid), features, model_state, {}
