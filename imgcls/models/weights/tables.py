"""Names of weights in the files of other projects: one table per project and family."""

import re

import flax.linen as nn

from imgcls.models.weights.layout import RESNET, Layout, Rules
from imgcls.models.weights.video_tables import VIDEO

# Arrays whose last axis is the classes.
CLASSIFIERS = r"^(head|head_dist|aux\d/fc2|AuxLogits/fc)/"
# Auxiliary classifiers: they may be missing in the file or in the model.
AUXILIARY = r"^(aux\d|AuxLogits)[/.]"
# Parameters over time, which models of images do not have.
OVER_TIME = r"(^|/)(time_\w+)"
# The kernel of the first convolution, which is applied to the image.
STEM = (
    r"^(conv1(/conv|/spatial)?|stem(_conv1)?(/conv)?|patch_embed|stage0/conv0|conv1_7x7_s2/conv"
    r"|Conv2d_1a_3x3/conv)/kernel$"
)


_DEEP_STEM = (
    (r"^stem_conv1\.", "conv1.0."),
    (r"^stem_bn1\.", "conv1.1."),
    (r"^stem_conv2\.", "conv1.3."),
    (r"^stem_bn2\.", "conv1.4."),
    (r"^stem_conv3\.", "conv1.6."),
    (r"^stem_bn3\.", "bn1."),
)
_AVG_SHORTCUT = (
    # downsample.0 is the average pooling.
    (r"downsample_conv", "downsample.1"),
    (r"downsample_bn", "downsample.2"),
)
_DENSENET = (
    (r"^conv1\.", "features.conv0."),
    (r"^bn1\.", "features.norm0."),
    (r"^bn\.", "features.norm5."),
    (r"^block(\d)_layer(\d+)\.bn", r"features.denseblock\1.denselayer\2.norm"),
    (r"^block(\d)_layer(\d+)\.", r"features.denseblock\1.denselayer\2."),
    (r"^transition(\d)\.bn\.", r"features.transition\1.norm."),
    (r"^transition(\d)\.", r"features.transition\1."),
    (r"^head\.", "classifier."),
)
_RESNEST = (*_DEEP_STEM, *_AVG_SHORTCUT, *RESNET)
_INCEPTION_V3 = ((r"^head\.", "fc."),)


def _resnet_timm(model: nn.Module) -> Rules:
    return (*_DEEP_STEM, *(_AVG_SHORTCUT if model.shortcut == "avg" else ()), *RESNET)


def _vgg_features(model: nn.Module) -> Rules:
    """Rules to `features.N`, with N the index among convolutions, norms, ReLUs and poolings."""
    rules, position = [], 0
    for stage, depth in enumerate(model.stage_sizes):
        for index in range(depth):
            rules.append((rf"^stage{stage}\.conv{index}\.", f"features.{position}."))
            rules.append((rf"^stage{stage}\.bn{index}\.", f"features.{position + 1}."))
            position += 3 if model.batch_norm else 2
        position += 1
    return rules


def _vgg_timm(model: nn.Module) -> Rules:
    dense = ((r"^fc(\d)\.", r"pre_logits.fc\1."), (r"^head\.", "head.fc."))
    return (*_vgg_features(model), *dense)


def _vgg_torchvision(model: nn.Module) -> Rules:
    indices = {"fc1": 0, "fc2": 3, "head": 6}
    dense = tuple((rf"^{name}\.", f"classifier.{index}.") for name, index in indices.items())
    return (*_vgg_features(model), *dense)


TIMM = {
    "ResNet": Layout("timm", _resnet_timm),
    "ResNeSt": Layout("timm", _RESNEST),
    "DenseNet": Layout("timm", _DENSENET),
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
    "ResNet": Layout("torchvision", RESNET),
    "DenseNet": Layout("torchvision", _DENSENET),
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

# pretrained-models.pytorch, the only project with weights of BN-Inception.
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
        (r"^attn_pool/latent$", "MAPHead_0/probe"),
        (r"^attn_pool/q/", "MAPHead_0/MultiHeadDotProductAttention_0/query/"),
        (r"^attn_pool/kv/", "MAPHead_0/MultiHeadDotProductAttention_0/{key,value}/"),
        (r"^attn_pool/proj/", "MAPHead_0/MultiHeadDotProductAttention_0/out/"),
        (r"^attn_pool/norm/", "MAPHead_0/LayerNorm_0/"),
        (r"^attn_pool/mlp/fc1/", "MAPHead_0/MlpBlock_0/Dense_0/"),
        (r"^attn_pool/mlp/fc2/", "MAPHead_0/MlpBlock_0/Dense_1/"),
    )


# google-research/vision_transformer, the source of the augreg weights.
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

LAYOUTS = (*VIDEO, TIMM, TORCHVISION, CADENE, VISION_TRANSFORMER, BIG_VISION)


def layouts(model: nn.Module, project: str | None = None) -> list[Layout]:
    """Layouts of a model's weights in one project, or in all projects (None).

    Those of its own family come before those of the models of images that it extends.
    """
    families = [base.__name__ for base in type(model).__mro__]
    available = [table[family] for family in families for table in LAYOUTS if family in table]
    return [layout for layout in available if project in (None, layout.project)]


_VIT_SIZES = {"ti": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge"}


def timm_name(name: str) -> str | None:
    """timm's name of a model; None if timm does not have it."""
    if match := re.fullmatch(r"vit_(ti|s|b|l|h)(\d+)(_clip|_clip_quickgelu)?", name):
        return f"vit_{_VIT_SIZES[match[1]]}_patch{match[2]}{match[3] or ''}_224"
    if match := re.fullmatch(r"vit_(b|l|so400m)(\d+)_siglip", name):
        size = _VIT_SIZES.get(match[1], match[1])
        side = 224 if name in ("vit_b16_siglip", "vit_so400m14_siglip") else 256
        return f"vit_{size}_patch{match[2]}_siglip_{side}"
    if match := re.fullmatch(r"vit_(s|b|l)(\d+)(_reg4)?_dinov2", name):
        return f"vit_{_VIT_SIZES[match[1]]}_patch{match[2]}{match[3] or ''}_dinov2"
    if match := re.fullmatch(r"deit3_(s|b|l|h)(\d+)", name):
        return f"deit3_{_VIT_SIZES[match[1]]}_patch{match[2]}_224"
    if match := re.fullmatch(r"deit_(ti|s|b)(\d+)_distilled", name):
        return f"deit_{_VIT_SIZES[match[1]]}_distilled_patch{match[2]}_224"
    if match := re.fullmatch(r"regnet([xy])_(\d+)(?:_(\d))?(mf|gf)(_tv)?", name):
        hundreds = int(match[2]) // 100 if match[4] == "mf" else int(match[2] + (match[3] or "0"))
        return f"regnet{match[1]}_{hundreds:03}{match[5] or ''}"
    return None if name in ("alexnet", "inception_v1", "inception_v2") else name
