"""Models whose logits are compared with those of another project, and the weights of both.

The weights are a function of their names, so that a case needs no file but the expected logits.
"""

import dataclasses
import re
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
      project: the other project.
      model: name of the model in this package.
      options: options of the model in this package.
      torch: function that imports the other project and creates its model.
      size: side of the images in pixels.
      frames: frames of clips; None: images.
      train: whether logits in training mode are compared too.
      trained_size: side of the images that the weights of a ViT are for.
    """

    project: str
    model: str
    options: dict[str, Any]
    torch: Callable[[], Any]
    size: int = 64
    train: bool = True
    trained_size: int | None = None
    frames: int | None = None

    @property
    def images(self) -> np.ndarray:
        """The images or clips."""
        return random_images(self.size, self.frames)


CLASSES = 5


def torchvision_video(name: str) -> Callable:
    """A model of clips of torchvision."""

    def make():
        return getattr(import_torchvision().models.video, name)(num_classes=CLASSES)

    return make


def timm(name: str, **options) -> Callable:
    """A model of timm."""

    def make():
        import_torchvision()  # timm imports it.
        import timm

        return timm.create_model(name, num_classes=CLASSES, **options)

    return make


def torchvision(name: str, **options) -> Callable:
    """A model of torchvision."""

    def make():
        return getattr(import_torchvision().models, name)(num_classes=CLASSES, **options)

    return make


def small_vgg(batch_norm: bool) -> Callable:
    """torchvision's VGG-11 with few channels."""

    def make():
        import torch

        vgg = import_torchvision().models.vgg
        plan = [8, "M", 8, "M", 16, 16, "M", 24, 24, "M", 24, 24, "M"]
        model = vgg.VGG(vgg.make_layers(plan, batch_norm=batch_norm), num_classes=CLASSES)
        sizes = {0: (24 * 49, 32), 3: (32, 32), 6: (32, CLASSES)}
        for place, (inputs, outputs) in sizes.items():
            model.classifier[place] = torch.nn.Linear(inputs, outputs)
        return model

    return make


def small_timm_vgg() -> Any:
    """timm's VGG-11 with BatchNorm and few channels."""
    import_torchvision()
    import torch
    from timm.models.vgg import VGG

    plan = [8, "M", 8, "M", 16, 16, "M", 24, 24, "M", 24, 24, "M"]
    norm = torch.nn.BatchNorm2d
    return VGG(cfg=plan, num_classes=CLASSES, norm_layer=norm)


def bn_inception() -> Any:
    """BN-Inception of pretrained-models.pytorch; its last pooling needs images of 224 pixels."""
    import_torchvision()
    import torch
    from pretrainedmodels import bninception

    model = bninception(num_classes=CLASSES, pretrained=None)
    model.global_pool = torch.nn.AdaptiveAvgPool2d(1)
    return model


def import_torchvision():
    """torchvision, also one that was built for another torch.

    Its compiled operators are missing then; models need no more than the names of two of them.
    """
    try:
        import torchvision
    except RuntimeError:
        for module in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[module]
        import torch

        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_torchvision.library = library  # The names go when it does.
        import torchvision
    return torchvision


def video_resnet(block: str, stem: str, first: str, others: str) -> Callable:
    """A ResNet of clips of torchvision, with one block in each of the first two stages alone.

    Convolutions are named by their class in torchvision.
    """

    def make():
        import_torchvision()
        import torch
        from torchvision.models.video import resnet

        makers = [getattr(resnet, name) for name in (first, *[others] * 3)]
        parts = getattr(resnet, block), makers, [1] * 4, getattr(resnet, stem)
        model = resnet.VideoResNet(*parts)
        model.layer3, model.layer4 = torch.nn.Identity(), torch.nn.Identity()
        model.fc = torch.nn.Linear(128, CLASSES)
        return model

    return make


def pytorchvideo(
    name: str, depths: tuple[int, ...], window: tuple[int, ...], **options
) -> Callable:
    """A model of pytorchvideo's hub, with other blocks in its stages and windows of its pooling."""

    def make():
        import_torchvision()
        import torch
        from pytorchvideo.models import hub, resnet

        resnet._MODEL_STAGE_DEPTH[50] = depths
        model = getattr(hub, name)(model_num_class=CLASSES, **options)
        model.blocks[-1].pool = torch.nn.AvgPool3d(window, stride=1)
        return model

    return make


def slowfast(
    depths: tuple[int, ...] = (3, 4, 6, 3), windows: tuple = ((8, 7, 7), (32, 7, 7)), **options
) -> Callable:
    """pytorchvideo's SlowFast of its hub, of which the slow pathway gets every fourth frame."""

    def make():
        import_torchvision()
        import torch
        from pytorchvideo.models import hub
        from pytorchvideo.models import slowfast as module

        module._MODEL_STAGE_DEPTH[50] = depths
        model = hub.slowfast_r50(model_num_class=CLASSES, **options)
        pools = [torch.nn.AvgPool3d(window, stride=1) for window in windows]
        model.blocks[-2].pool = torch.nn.ModuleList(pools)

        def split(_, inputs):
            count = inputs[0].shape[2]
            slow = torch.linspace(0, count - 1, count // 4).long()
            return ([inputs[0][:, :, slow], inputs[0]],)

        model.register_forward_pre_hook(split)
        return model

    return make


def small_s3d() -> Any:
    """torchvision's S3D with windows for small clips."""
    import torch

    model = import_torchvision().models.video.s3d(num_classes=CLASSES)
    model.avgpool = torch.nn.AvgPool3d(1)
    return model


def timesformer(**options) -> Callable:
    """TimeSformer of Hugging Face's transformers."""

    def make():
        import_torchvision()
        from transformers import TimesformerConfig, TimesformerForVideoClassification

        config = TimesformerConfig(num_labels=CLASSES, drop_path_rate=0, **options)
        model = TimesformerForVideoClassification(config)
        model.register_forward_pre_hook(lambda _, inputs: inputs[0].transpose(1, 2))
        model.register_forward_hook(lambda _, __, outputs: outputs.logits)
        return model

    return make


def shifted_resnet() -> Any:
    """torchvision's ResNet on frames, with a shift before the first convolution of each block."""
    resnet = import_torchvision().models.resnet
    import torch

    model = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)
    clips = 2

    def shift(_, inputs):
        (x,) = inputs
        frames = x.unflatten(0, (clips, -1))
        shifted, fold = frames.clone(), x.shape[1] // 8
        zero = torch.zeros_like(frames[:, :1])
        ahead = torch.cat([frames[:, 1:], zero], dim=1)
        behind = torch.cat([zero, frames[:, :-1]], dim=1)
        shifted[:, :, :fold] = ahead[:, :, :fold]
        shifted[:, :, fold : 2 * fold] = behind[:, :, fold : 2 * fold]
        return (shifted.flatten(0, 1),)

    for name, module in model.named_modules():
        if name.endswith(".conv1"):
            module.register_forward_pre_hook(shift)
    model.register_forward_pre_hook(lambda _, inputs: inputs[0].transpose(1, 2).flatten(0, 1))
    model.register_forward_hook(lambda _, __, logits: logits.unflatten(0, (clips, -1)).mean(1))
    return model


_ONE = {"stage_sizes": (1, 1, 1, 1)}
_CLIP = {"size": 32, "frames": 8}
_VGG = {"widths": (8, 8, 16, 24, 24), "hidden": 32}
_VIT = {"depth": 2}
_TINY = {"depth": 2, "width": 32, "num_heads": 2, "mlp_dim": 128}


def tiny_vit(name: str, **options) -> Callable:
    """A ViT of timm with the options `_TINY`."""
    return timm(name, depth=2, embed_dim=32, num_heads=2, **options)


CASES = {
    "alexnet": Case("torchvision", "alexnet", {}, torchvision("alexnet"), 100),
    "vgg": Case("torchvision", "vgg11", _VGG, small_vgg(False)),
    "vgg_bn": Case("torchvision", "vgg11_bn", _VGG, small_vgg(True), 100),
    "vgg_timm": Case("timm", "vgg11_bn", {**_VGG, "hidden": 4096}, small_timm_vgg, 224),
    "inception_v1": Case(
        "torchvision", "inception_v1", {}, torchvision("googlenet", init_weights=False), 100
    ),
    "inception_v2": Case("cadene", "inception_v2", {}, bn_inception, 100),
    "inception_v3": Case("timm", "inception_v3", {}, timm("inception_v3", aux_logits=True), 299),
    "resnet18": Case("timm", "resnet18", _ONE, timm("resnet18", layers=(1, 1, 1, 1))),
    "resnet50": Case("timm", "resnet50", _ONE, timm("resnet50", layers=(1, 1, 1, 1)), 75),
    "seresnet": Case("timm", "seresnet50", _ONE, timm("seresnet50", layers=(1, 1, 1, 1))),
    "resnext": Case("timm", "resnext50_32x4d", _ONE, timm("resnext50_32x4d", layers=(1, 1, 1, 1))),
    "wide_resnet": Case(
        "timm", "wide_resnet50_2", _ONE, timm("wide_resnet50_2", layers=(1, 1, 1, 1))
    ),
    "resnet50d": Case(
        "timm",
        "resnet50d",
        {**_ONE, "width": 16},
        timm("resnet50d", layers=(1, 1, 1, 1), stem_width=8, channels=(16, 32, 64, 128)),
        75,
    ),
    "resnest": Case("timm", "resnest50d", _ONE, timm("resnest50d", layers=(1, 1, 1, 1)), 75),
    "regnetx": Case("timm", "regnetx_200mf", {}, timm("regnetx_002")),
    "regnety": Case("timm", "regnety_200mf", {}, timm("regnety_002")),
    "regnety_tv": Case("torchvision", "regnety_400mf", {}, torchvision("regnet_y_400mf")),
    "vit": Case(
        "timm", "vit_ti16", _VIT, timm("vit_tiny_patch16_224", depth=2, img_size=64), train=False
    ),
    "vit_tv": Case(
        "torchvision",
        "vit_b32",
        {"depth": 2, "width": 32, "num_heads": 2, "mlp_dim": 64},
        lambda: import_torchvision().models.VisionTransformer(
            image_size=64,
            patch_size=32,
            num_layers=2,
            num_heads=2,
            hidden_dim=32,
            mlp_dim=64,
            num_classes=CLASSES,
        ),
        train=False,
    ),
    "deit": Case(
        "timm",
        "deit_ti16_distilled",
        _VIT,
        timm("deit_tiny_distilled_patch16_224", depth=2, img_size=64),
        train=False,
    ),
    "deit3": Case(
        "timm",
        "deit3_s16",
        _TINY,
        tiny_vit("deit3_small_patch16_224", img_size=64),
        96,
        train=False,
        trained_size=64,
    ),
    "dinov2": Case(
        "timm",
        "vit_s14_dinov2",
        _TINY,
        tiny_vit("vit_small_patch14_dinov2", img_size=98),
        56,
        train=False,
        trained_size=98,
    ),
    "dinov2_registers": Case(
        "timm",
        "vit_s14_reg4_dinov2",
        _TINY,
        tiny_vit("vit_small_patch14_reg4_dinov2", img_size=56),
        70,
        train=False,
        trained_size=56,
    ),
    "clip": Case(
        "timm",
        "vit_b16_clip",
        _TINY,
        tiny_vit("vit_base_patch16_clip_224", img_size=64),
        80,
        train=False,
        trained_size=64,
    ),
    "clip_quickgelu": Case(
        "timm",
        "vit_b16_clip_quickgelu",
        _TINY,
        tiny_vit("vit_base_patch16_clip_quickgelu_224", img_size=64),
        train=False,
    ),
    "siglip": Case(
        "timm",
        "vit_b16_siglip",
        _TINY,
        tiny_vit("vit_base_patch16_siglip_224", img_size=64),
        96,
        train=False,
        trained_size=64,
    ),
    "vit_average": Case(
        "timm",
        "vit_ti16",
        {**_TINY, "pool": "gap", "class_token": True, "fc_norm": True},
        tiny_vit("vit_tiny_patch16_224", img_size=64, global_pool="avg"),
        train=False,
    ),
    "vit_registers_average": Case(
        "timm",
        "vit_s16",
        {
            **_TINY,
            **{"pool": "gap", "fc_norm": True, "registers": 4, "embed_prefix": False},
            "layer_scale": 1e-5,
        },
        tiny_vit("vit_medium_patch16_reg4_gap_256", img_size=64),
        train=False,
    ),
    "r3d": Case(
        "torchvision",
        "r3d_18",
        {"stage_sizes": (1, 1)},
        video_resnet("BasicBlock", "BasicStem", "Conv3DSimple", "Conv3DSimple"),
        train=False,
        **_CLIP,
    ),
    "mc3": Case(
        "torchvision",
        "mc3_18",
        {"stage_sizes": (1, 1)},
        video_resnet("BasicBlock", "BasicStem", "Conv3DSimple", "Conv3DNoTemporal"),
        train=False,
        **_CLIP,
    ),
    "r2plus1d": Case(
        "torchvision",
        "r2plus1d_18",
        {"stage_sizes": (1, 1)},
        video_resnet("BasicBlock", "R2Plus1dStem", "Conv2Plus1D", "Conv2Plus1D"),
        **_CLIP,
    ),
    **{
        name: Case(
            "pytorchvideo",
            name,
            {"stage_sizes": (1, 2, 1), "width": 16, "window": (2, 1, 1)},
            pytorchvideo(name, (1, 2, 1), (2, 1, 1), stem_dim_out=16),
            train=name == "i3d_r50",
            **_CLIP,
        )
        for name in ("c2d_r50", "i3d_r50", "slow_r50")
    },
    "slowfast": Case(
        "pytorchvideo",
        "slowfast_r50_8x8",
        {
            **{"stage_sizes": (1, 2, 1), "width": 16},
            **{"slow_window": (1, 2, 2), "fast_window": (7, 2, 2)},
        },
        slowfast((1, 2, 1), ((1, 2, 2), (7, 2, 2)), stem_dim_outs=(16, 2)),
        train=False,
        **_CLIP,
    ),
    "s3d": Case("torchvision", "s3d", {}, small_s3d, 32, train=False, frames=8),
    "timesformer": Case(
        "transformers",
        "timesformer_b16",
        _TINY,
        timesformer(
            image_size=32,
            num_frames=4,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=128,
        ),
        32,
        train=False,
        frames=4,
    ),
    "tsm": Case("timm", "tsm_r18", _ONE, shifted_resnet, train=False, **_CLIP),
}


def random_images(size: int, frames: int | None = None) -> np.ndarray:
    """Float32 images `[6, size, size, 3]`, or clips `[2, frames, size, size, 3]`."""
    rng = np.random.default_rng(size)
    shape = (6, size, size, 3) if frames is None else (2, frames, size, size, 3)
    return rng.standard_normal(shape, dtype=np.float32)


# Scale of the tokens of a ViT: small, so that the epsilon of every norm matters.
_RESIDUAL = (
    r"pos_embed|position_emb|time_embed|patch_embed|_token$|conv_proj|temporal_dense"
    r"|attn\.proj|out_proj|mlp\.(fc2|3)"
)


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of that name, laid out as in torch: kernels by He, the rest near its default.

    Except that the last norm of a residual branch is small: else activations double from block to
    block, gates saturate, and rounding alone changes the logits of a deep network.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    draw = rng.standard_normal(shape, dtype=np.float32)
    if re.search(_RESIDUAL, name):
        draw *= np.float32(0.05)
    if name.endswith("running_var"):
        return 0.5 + draw**2
    if len(shape) > 1:
        fan_in = np.prod(shape[1:]) if name.endswith("weight") else 4
        # A sharp softmax of the split attention would amplify rounding from block to block.
        gain = 0.1 if re.search(r"conv2\.fc[12]\.weight$", name) else 1.0
        return draw * np.float32(gain * (2 / fan_in) ** 0.5)
    if re.search(r"(bn3|conv3\.bn|f\.c\.1)\.weight$", name):
        return np.float32(0.3) + np.float32(0.1) * draw
    if name.endswith("weight"):
        return 1 + np.float32(0.2) * draw
    return np.float32(0.2) * draw
