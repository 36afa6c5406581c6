"""How names of weights in this package are written in another project.

A rule is `(regex, replacement)`. The path of an array in this package, `layer1_0/conv1/kernel`, is
first written in the style of torch, `layer1_0.conv1.weight`, and then rewritten by the rules of the
family in order. If an array corresponds to several arrays of the other project, the result names
all of them: `.../{query,key,value}/kernel`.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence

import flax.linen as nn

Rules = Sequence[tuple[str, str | Callable[[re.Match], str]]]

# ResNets of timm and torchvision.
RESNET = (
    (r"^layer(\d)_(\d+)", r"layer\1.\2"),
    (r"downsample_conv", "downsample.0"),
    (r"downsample_bn", "downsample.1"),
    (r"^head\.", "fc."),
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Names and layout of a family's weights in another project.

    Attributes:
      project: name of the project, the prefix in `init_from`.
      rules: rules that rewrite names, or a function of the model that returns them.
      torch: whether arrays have the layout of torch (`[out, in, h, w]`), otherwise that of flax.
      dense: regex of convolutions that are dense layers on a flattened map in the other project.
      pointwise: regex of dense layers that are convolutions of clips by 1x1x1 there.
      ignore: regex of names in the files that are not used.
    """

    project: str
    rules: Rules | Callable[[nn.Module], Rules]
    torch: bool = True
    dense: str = "$^"
    pointwise: str = "$^"
    ignore: str = r"num_batches_tracked$"

    def names(self, path: str, model: nn.Module) -> list[str]:
        """Names of the array at `path` in the other project; several are parts to be stacked."""
        name = _torch_name(path) if self.torch else path
        rules = self.rules(model) if callable(self.rules) else self.rules
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if match := re.fullmatch(r"(.*)\{(.*)\}(.*)", name):
            return [match[1] + part + match[3] for part in match[2].split(",")]
        return [name]


_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def _torch_name(path: str) -> str:
    *modules, leaf = path.split("/")
    return ".".join([*modules, _LEAVES.get(leaf, leaf)])
