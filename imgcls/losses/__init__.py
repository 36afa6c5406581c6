"""Losses: one value per example, computed in float32, or in float64 for float64 inputs.

In docstrings "float" is float32 or float64.

Losses do not average over the batch, because only the caller knows which examples are padding;
`masked_mean` does.
"""

from imgcls.losses.classification import (
    asymmetric_loss,
    sigmoid_binary_cross_entropy,
    sigmoid_focal_loss,
    softmax_cross_entropy,
)
from imgcls.losses.common import masked_mean
from imgcls.losses.embedding import (
    MINING,
    SIMILARITIES,
    byol_loss,
    contrastive_margin_loss,
    info_nce,
    l2_normalize,
    mined_triplet_loss,
    nt_xent,
    supcon,
    triplet_loss,
)
from imgcls.losses.reconstruction import masked_patch_mse, mse
from imgcls.losses.registry import register_loss

__all__ = [
    "MINING",
    "SIMILARITIES",
    "asymmetric_loss",
    "byol_loss",
    "contrastive_margin_loss",
    "info_nce",
    "l2_normalize",
    "masked_mean",
    "masked_patch_mse",
    "mined_triplet_loss",
    "mse",
    "nt_xent",
    "register_loss",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
    "supcon",
    "triplet_loss",
]
