"""Names of weights of models of clips in the files of other projects."""

import flax.linen as nn

from imgcls.models.weights.layout import RESNET, Layout, Rules


def _video_resnet_torchvision(model: nn.Module) -> Rules:
    """Rules to sequences: `conv1.0` is the convolution or a sequence itself, `conv1.1` the norm."""
    parts = (("spatial", 0), ("bn", 1), ("temporal", 3)) if model.factorized else ()
    stem = [(rf"^conv1\.{part}\.", f"stem.{index}.") for part, index in parts]
    stem = stem or [(r"^conv1\.", "stem.0.")]
    return (
        *stem,
        (r"^bn1\.", "stem.4." if model.factorized else "stem.1."),
        *((rf"\.conv(\d)\.{part}\.", rf".conv\1.0.{index}.") for part, index in parts),
        *(() if parts else ((r"\.conv(\d)\.", r".conv\1.0."),)),
        (r"^(layer\S*)\.bn(\d)\.", r"\1.conv\2.1."),
        *RESNET,
    )


def _video_resnet_pytorchvideo(model: nn.Module) -> Rules:
    """Rules to `blocks.N`, with N the index among stem, stages, pooling and head."""
    pools = int(model.pool_time)
    stages = len(model.stage_sizes)
    return (
        (r"^conv1\.", "blocks.0.conv."),
        (r"^bn1\.", "blocks.0.norm."),
        (r"^head\.", f"blocks.{1 + stages + pools}.proj."),
        (
            r"^layer(\d)_(\d+)\.",
            lambda m: f"blocks.{int(m[1]) + (pools if m[1] > '1' else 0)}.res_blocks.{m[2]}.",
        ),
        *_BOTTLENECK_PYTORCHVIDEO,
    )


_BOTTLENECK_PYTORCHVIDEO = (
    (r"\.downsample_conv\.", ".branch1_conv."),
    (r"\.downsample_bn\.", ".branch1_norm."),
    (r"\.conv([123])\.", lambda m: f".branch2.conv_{'abc'[int(m[1]) - 1]}."),
    (r"\.bn([123])\.", lambda m: f".branch2.norm_{'abc'[int(m[1]) - 1]}."),
)


def _slowfast_pytorchvideo(model: nn.Module) -> Rules:
    """Rules to `blocks.N`: stem and stages of both pathways, their pooling, and the head."""
    pathways = {"slow": 0, "fast": 1}

    def block(match) -> str:
        stage = match[2] or 0
        return f"blocks.{stage}.multipathway_blocks.{pathways[match[1]]}."

    return (
        (r"^(slow|fast)\.(?=conv1|bn1)()", block),
        (r"multipathway_blocks\.(\d)\.conv1\.", r"multipathway_blocks.\1.conv."),
        (r"multipathway_blocks\.(\d)\.bn1\.", r"multipathway_blocks.\1.norm."),
        (r"^(slow|fast)\.layer(\d)_(\d+)", lambda m: f"{block(m)}res_blocks.{m[3]}"),
        (r"^fuse(\d)\.conv\.", r"blocks.\1.multipathway_fusion.conv_fast_to_slow."),
        (r"^fuse(\d)\.bn\.", r"blocks.\1.multipathway_fusion.norm."),
        (r"^head\.", f"blocks.{2 + len(model.stage_sizes)}.proj."),
        *_BOTTLENECK_PYTORCHVIDEO,
    )


# Positions of layers in torchvision's sequence, in which poolings count.
_S3D_BLOCKS = (5, 6, 8, 9, 10, 11, 12, 14, 15)
_S3D = (
    (r"\.conv\.", ".0."),
    (r"\.bn\.", ".1."),
    (r"\.space\.", ".0."),
    (r"\.time\.", ".1."),
    (r"branch([12])_([12])\.", lambda m: f"branch{m[1]}.{int(m[2]) - 1}."),
    (r"branch3\.", "branch3.1."),
    (r"^conv([123])\.", lambda m: f"features.{(0, 2, 3)[int(m[1]) - 1]}."),
    (r"^block(\d)\.", lambda m: f"features.{_S3D_BLOCKS[int(m[1]) - 1]}."),
    (r"^head\.", "classifier.1."),
)

_TORCHVISION = {
    "VideoResNet": Layout("torchvision", _video_resnet_torchvision),
    "S3D": Layout("torchvision", _S3D, pointwise=r"^head/"),
}
_PYTORCHVIDEO = {
    "VideoResNet": Layout("pytorchvideo", _video_resnet_pytorchvideo),
    "SlowFast": Layout("pytorchvideo", _slowfast_pytorchvideo),
}
# TSN with shifts: `conv1` is wrapped, and the head has another name.
_TSM = {
    "VideoResNet": Layout(
        "tsm",
        (
            *RESNET[:-1],
            (r"^(layer\S*)\.conv1\.", r"\1.conv1.net."),
            (r"^", "base_model."),
            (r"^base_model\.head\.", "new_fc."),
        ),
    )
}
# In the files of the authors the names follow `model.`; Hugging Face's transformers have their own.
_TIMESFORMER = {
    "TimeSformer": Layout(
        "timesformer",
        (
            (r"^block(\d+)\.", r"blocks.\1."),
            (r"\.time_norm\.", ".temporal_norm1."),
            (r"\.time_attn\.", ".temporal_attn."),
            (r"\.time_proj\.", ".temporal_fc."),
            (r"^patch_embed\.", "patch_embed.proj."),
            (r"^", "model."),
        ),
    )
}
_TRANSFORMERS = {
    "TimeSformer": Layout(
        "transformers",
        (
            (r"^cls_token$", "timesformer.embeddings.cls_token"),
            (r"^pos_embed$", "timesformer.embeddings.position_embeddings"),
            (r"^time_embed$", "timesformer.embeddings.time_embeddings"),
            (r"^patch_embed\.", "timesformer.embeddings.patch_embeddings.projection."),
            (r"^norm\.", "timesformer.layernorm."),
            (r"^head\.", "classifier."),
            (r"^block(\d+)\.", r"timesformer.encoder.layer.\1."),
            (r"\.norm1\.", ".layernorm_before."),
            (r"\.norm2\.", ".layernorm_after."),
            (r"\.time_norm\.", ".temporal_layernorm."),
            (r"\.time_proj\.", ".temporal_dense."),
            (r"\.(time_)?attn\.qkv\.", r".\1attn.attention.qkv."),
            (r"\.(time_)?attn\.proj\.", r".\1attn.output.dense."),
            (r"\.time_attn\.", ".temporal_attention."),
            (r"\.attn\.", ".attention."),
            (r"\.mlp\.fc1\.", ".intermediate.dense."),
            (r"\.mlp\.fc2\.", ".output.dense."),
        ),
    )
}

VIDEO = (_TORCHVISION, _PYTORCHVIDEO, _TSM, _TIMESFORMER, _TRANSFORMERS)
