"""Vision Transformer of volumes: patches and positions of `vit.py` over three axes.

With `embed_prefix=False`, `norm_epsilon=1e-5` and `pos_embed="learned"` this is MONAI's `ViT` with
biases of queries, keys and values. Patches that are shorter along the first axis are those of
slices that are far apart, or the tubelets of clips: then this is model 1 of ViViT (Arnab et al.
2021, arXiv:2103.15691, section 3.3), and the network of VideoMAE (Tong et al. 2022,
arXiv:2203.12602, section 3.3), there with positions along one axis instead of three.
"""

from typing import ClassVar

from imgcls.models.registry import ModelEntry, register_model, register_pattern
from imgcls.models.vit import SIZES, ViT


class ViT3D(ViT, kw_only=True):
    """ViT over three axes; the other attributes are those of `ViT`.

    Attributes:
      patch_depth: side of a patch along the first axis; None: `patch_size`.
    """

    spatial_axes: ClassVar[int] = 3

    patch_depth: int | None = None

    @property
    def patch_sides(self) -> tuple[int, ...]:
        """Sides of a patch along each axis."""
        return (self.patch_depth or self.patch_size, self.patch_size, self.patch_size)


@register_pattern(r"vit3d_(ti|s|b|l|h)([1-9]\d*)")
def vit3d_entry(size: str, patch_size: str) -> ModelEntry:
    """Entry of a ViT of volumes of any size and patch size, such as "vit3d_s4"."""
    return ModelEntry(ViT3D, {"patch_size": int(patch_size), **SIZES[size]}, input_size=64)


@register_pattern(r"vit3d_(ti|s|b|l|h)([1-9]\d*)x([1-9]\d*)")
def tubelets_entry(size: str, patch_size: str, tubelet: str) -> ModelEntry:
    """Entry of a ViT of clips of any size, patch size and tubelet, such as "vit3d_s8x4"."""
    sides = {"patch_size": int(patch_size), "patch_depth": int(tubelet)}
    return ModelEntry(ViT3D, {**sides, **_CLIPS, **SIZES[size]}, input_frames=16)


# The features are the mean of the patches, and the positions fit clips of any size.
_CLIPS = {"pool": "gap", "pos_embed": "sincos3d"}
register_model(
    "vit3d_b16x2",
    input_frames=16,
    source="Tong et al. 2022; MCG-NJU/VideoMAE",
    patch_size=16,
    patch_depth=2,
    **_CLIPS,
    **SIZES["b"],
)(ViT3D)
for _size, _patch in (("ti", 8), ("s", 8), ("b", 8), ("b", 16)):
    register_model(
        f"vit3d_{_size}{_patch}",
        input_size=64,
        source="Dosovitskiy et al. 2020, over three axes",
        patch_size=_patch,
        **SIZES[_size],
    )(ViT3D)
