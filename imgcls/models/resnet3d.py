"""ResNet for volumes `[B, D, H, W, C]`: the layers of `resnet.py` over three axes.

These are the 3D ResNets of Hara et al. 2017, arXiv:1708.07632, table 1, in the layouts of two
collections of medical models:

- MedicalNet (Chen et al. 2019, arXiv:1904.00625; github Tencent/MedicalNet, models/resnet.py), and
  MONAI with `conv1_t_stride=2, bias_downsample=False`: the stem "imagenet", for 64^3 and more. Its
  depths 18 and 34 have `shortcut="pad"`. MedicalNet dilates the last two stages, for segmentation,
  where this halves the resolution; the parameters are the same.
- MedMNIST (Yang et al. 2023, arXiv:2110.14795; github MedMNIST/experiments, MedMNIST3D/models.py):
  the stem "cifar", for 28^3. "stride2" is the compromise where "cifar" takes too long.

SE-ResNets have the gate of `resnet.py` on the channels of each branch. Their parameters are those
of MONAI's `SEResNet50`, which has the stride on the 1x1x1 convolution.
"""

from imgcls.models.layers.acs import OverVolumes
from imgcls.models.registry import register_model
from imgcls.models.resnet import DEPTHS, ResNet


class ResNet3D(OverVolumes, ResNet, kw_only=True):
    """ResNet over three axes; the attributes are those of `ResNet` and `OverVolumes`."""


_SOURCE = "Hara et al. 2017"
for _depth in (10, 18, 34, 50):
    register_model(f"resnet3d_{_depth}", input_size=64, source=_SOURCE, **DEPTHS[_depth])(ResNet3D)
register_model(
    "seresnet3d_50", input_size=64, source="Hu et al. 2017, over three axes", se=True, **DEPTHS[50]
)(ResNet3D)
