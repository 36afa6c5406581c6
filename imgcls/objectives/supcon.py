"""Supervised contrastive learning: images of one class attract each other."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from imgcls import losses
from imgcls.objectives.joint_embedding import (
    Embedding,
    JointEmbedding,
    check_class_labels,
    check_whole_batch,
)
from imgcls.objectives.objective import register_objective


@register_objective("supcon")
class SupCon(JointEmbedding):
    """SupCon (Khosla et al. 2020, arXiv:2004.11362, equation 2): L_out on two views of each image.

    Args:
      config, data_info: see `Pretraining`.
      temperature: divides the similarities (0.1, section 4.4).
      hidden: hidden width of the projector (2048, section 3.1).
      features: width of the projections (128).
      probe: see `Pretraining`.

    Raises:
      ConfigError: see `Pretraining`; or `config.accumulate` is not 1.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_info,
        temperature: float = 0.1,
        hidden: int = 2048,
        features: int = 128,
        probe: bool = False,
    ):
        super().__init__(config, data_info, probe, views="two")
        check_whole_batch(config)
        self._temperature = temperature
        projector = self.projector(hidden, features, layers=2, last_norm=False)
        self.network = Embedding(self.model, projector)

    def pretext_loss(self, params, model_state, target, batch, rng, step) -> tuple:
        """Mean loss over the views as anchors, without those that have no positive."""
        check_class_labels(batch["label"], "supcon")
        features, projections, model_state = self.project(params, model_state, batch, rng)
        labels = jnp.concatenate([batch["label"]] * len(projections))
        loss, valid = losses.supcon(jnp.concatenate(projections), labels, self._temperature)
        return losses.masked_mean(loss, valid), features, model_state, {}
