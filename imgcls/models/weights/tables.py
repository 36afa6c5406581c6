"""Names of weights in other projects' files: one table per project and family.

A rule is `(regex, replacement)`. Our array `layer1_0/conv1/kernel` is first written in torch's way,
`layer1_0.conv1.weight`, and then passes through the family's rules, one after the other. Where one
of our arrays is several of theirs, the result names them all: `.../{query,key,value}/kernel`.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence

import flax.linen as nn

Rules = Sequence[tuple[str, str | Callable[[re.Match], str]]]

# Arrays of ours whose last axis is the classes.
CLASSIFIERS = r"^(head|head_dist|aux\d/fc2|AuxLogits/fc)/"
# Parts of ours that a file may lack, or have in vain: auxiliary classifiers.
AUXILIARY = r"^(aux\d|AuxLogits)[/.]"
# The kernel that reads the picture.
STEM = (
    r"^(conv1(/conv)?|stem(_conv1)?(/conv)?|patch_embed|stage0/conv0|conv1_7x7_s2/conv"
    r"|Conv2d_1a_3x3/conv)/kernel$"
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a project writes the weights of a family.

    Attributes:
      project: its name, the prefix in `init_from`.
      rules: from our names to theirs; or a function of the model that returns them.
      torch: arrays are laid out as in torch (`[out, in, h, w]`); else as in flax.
      dense: regex of our convolutions that are dense layers there, over a flattened map.
      ignore: regex of names in their files that are no weights, or that no model of ours has.
    """

    project: str
    rules: Rules | Callable[[nn.Module], Rules]
    torch: bool = True
    dense: str = "$^"
    ignore: str = r"num_batches_tracked$"

    def names(self, path: str, model: nn.Module) -> list[str]:
        """Their names of our array at `path`; more than one are stacked along the axis of three."""
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


_RESNET = (
    (r"^layer(\d)_(\d+)", r"layer\1.\2"),
    (r"downsample_conv", "downsample.0"),
    (r"downsample_bn", "downsample.1"),
    (r"^head\.", "fc."),
)
_RESNEST = (
    (r"^stem_conv1\.", "conv1.0."),
    (r"^stem_bn1\.", "conv1.1."),
    (r"^stem_conv2\.", "conv1.3."),
    (r"^stem_bn2\.", "conv1.4."),
    (r"^stem_conv3\.", "conv1.6."),
    (r"^stem_bn3\.", "bn1."),
    # Its place 0 is the average pooling.
    (r"downsample_conv", "downsample.1"),
    (r"downsample_bn", "downsample.2"),
    *_RESNET,
)
_INCEPTION_V3 = ((r"^head\.", "fc."),)


def _vgg_features(model: nn.Module) -> Rules:
    """`features.N`: the place in one sequence of convolutions, norms, ReLUs and poolings."""
    rules, place = [], 0
    for stage, depth in enumerate(model.stage_sizes):
        for index in range(depth):
            rules.append((rf"^stage{stage}\.conv{index}\.", f"features.{place}."))
            rules.append((rf"^stage{stage}\.bn{index}\.", f"features.{place + 1}."))
            place += 3 if model.batch_norm else 2
        place += 1
    return rules


def _vgg_timm(model: nn.Module) -> Rules:
    dense = ((r"^fc(\d)\.", r"pre_logits.fc\1."), (r"^head\.", "head.fc."))
    return (*_vgg_features(model), *dense)


def _vgg_torchvision(model: nn.Module) -> Rules:
    places = {"fc1": 0, "fc2": 3, "head": 6}
    dense = tuple((rf"^{name}\.", f"classifier.{place}.") for name, place in places.items())
    return (*_vgg_features(model), *dense)


TIMM = {
    "ResNet": Layout("timm", _RESNET),
    "ResNeSt": Layout("timm", _RESNEST),
    "RegNet": Layout("timm", ((r"^s(\d)_b(\d+)\.", r"s\1.b\2."), (r"^head\.", "head.fc."))),
    "VGG": Layout("timm", _vgg_timm),
    "InceptionV3": Layout("timm", _INCEPTION_V3),
    "ViT": Layout(
        "timm", ((r"^block(\d+)\.", r"blocks.\1."), (r"^patch_embed\.", "patch_embed.proj."))
    ),
}

TORCHVISION = {
    "AlexNet": Layout(
        "torchvision",
        (
            (r"^(\w+)\.conv\.", r"\1."),
            *(
                (rf"^{ours}\.", f"{theirs}.")
                for ours, theirs in (
                    ("conv1", "features.0"),
                    ("conv2", "features.3"),
                    ("conv3", "features.6"),
                    ("conv4", "features.8"),
                    ("conv5", "features.10"),
                    ("fc6", "classifier.1"),
                    ("fc7", "classifier.4"),
                    ("head", "classifier.6"),
                )
            ),
        ),
        dense=r"^fc[67]/conv/",
    ),
    "VGG": Layout("torchvision", _vgg_torchvision, dense=r"^fc[12]/"),
    "InceptionV1": Layout(
        "torchvision",
        ((r"branch(\d)_(\d)\.", r"branch\1.\2."), (r"^head\.", "fc.")),
        dense=r"^aux\d/fc1/",
    ),
    "InceptionV3": Layout("torchvision", _INCEPTION_V3),
    "ResNet": Layout("torchvision", _RESNET),
    "RegNet": Layout(
        "torchvision",
        (
            (
                r"^s(\d)_b(\d+)\.",
                lambda m: f"trunk_output.block{m[1]}.block{m[1]}-{int(m[2]) - 1}.f.",
            ),
            (r"f\.downsample\.", "proj."),
            (r"f\.conv([123])\.", lambda m: f"f.{'abc'[int(m[1]) - 1]}."),
            (r"(^stem|\.[abc]|\.proj)\.conv\.", r"\1.0."),
            (r"(^stem|\.[abc]|\.proj)\.bn\.", r"\1.1."),
            (r"^head\.", "fc."),
        ),
    ),
    "ViT": Layout(
        "torchvision",
        (
            (r"^cls_token$", "class_token"),
            (r"^pos_embed$", "encoder.pos_embedding"),
            (r"^patch_embed\.", "conv_proj."),
            (r"^norm\.", "encoder.ln."),
            (r"^head\.", "heads.head."),
            (r"^block(\d+)\.", r"encoder.layers.encoder_layer_\1."),
            (r"\.norm(\d)\.", r".ln_\1."),
            (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
            (r"\.attn\.proj\.", ".self_attention.out_proj."),
            (r"\.mlp\.fc1\.", ".mlp.0."),
            (r"\.mlp\.fc2\.", ".mlp.3."),
        ),
    ),
}

# pretrained-models.pytorch, the only one with BN-Inception.
CADENE = {
    "InceptionV2": Layout(
        "cadene",
        (
            (r"^(inception_\w\w)\.(conv)?(\w+)\.", r"\1_\3."),
            (r"\.conv\.", "."),
            (r"\.bn\.", "_bn."),
            (r"^head\.", "last_linear."),
        ),
    )
}

_BLOCK = r"^block(\d+)/"


def _augreg(attention: str, mlp: str, norm2: str, positions: str) -> Rules:
    block = r"Transformer/encoderblock_\1/"
    return (
        (r"^cls_token$", "cls"),
        (r"^pos_embed$", positions),
        (r"^patch_embed/", "embedding/"),
        (r"^norm/", "Transformer/encoder_norm/"),
        (_BLOCK + "norm1/", block + "LayerNorm_0/"),
        (_BLOCK + "norm2/", block + norm2 + "/"),
        (_BLOCK + "attn/qkv/", block + attention + "/{query,key,value}/"),
        (_BLOCK + "attn/proj/", block + attention + "/out/"),
        (_BLOCK + "mlp/fc1/", block + mlp + "/Dense_0/"),
        (_BLOCK + "mlp/fc2/", block + mlp + "/Dense_1/"),
    )


# google-research/vision_transformer, whose augreg weights are the best known.
VISION_TRANSFORMER = {
    "ViT": Layout(
        "augreg",
        _augreg(
            "MultiHeadDotProductAttention_1",
            "MlpBlock_3",
            "LayerNorm_2",
            "Transformer/posembed_input/pos_embedding",
        ),
        torch=False,
    )
}

# google-research/big_vision.
BIG_VISION = {
    "ViT": Layout(
        "augreg",
        _augreg("MultiHeadDotProductAttention_0", "MlpBlock_0", "LayerNorm_1", "pos_embedding"),
        torch=False,
    )
}

LAYOUTS = (TIMM, TORCHVISION, CADENE, VISION_TRANSFORMER, BIG_VISION)


def layouts(model: nn.Module, project: str | None = None) -> list[Layout]:
    """The layouts in which files have the weights of a model, of one project or of all."""
    family = type(model).__name__
    found = [table[family] for table in LAYOUTS if family in table]
    return [layout for layout in found if project in (None, layout.project)]


_VIT_SIZES = {"ti": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge"}


def timm_name(name: str) -> str | None:
    """timm's name of one of our models; None where it has no such model."""
    if match := re.fullmatch(r"vit_(ti|s|b|l|h)(\d+)", name):
        return f"vit_{_VIT_SIZES[match[1]]}_patch{match[2]}_224"
    if match := re.fullmatch(r"deit_(ti|s|b)(\d+)_distilled", name):
        return f"deit_{_VIT_SIZES[match[1]]}_distilled_patch{match[2]}_224"
    if match := re.fullmatch(r"regnet([xy])_(\d+)(?:_(\d))?(mf|gf)(_tv)?", name):
        hundreds = int(match[2]) // 100 if match[4] == "mf" else int(match[2] + (match[3] or "0"))
        return f"regnet{match[1]}_{hundreds:03}{match[5] or ''}"
    return None if name in ("alexnet", "inception_v1", "inception_v2") else name
