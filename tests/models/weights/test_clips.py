"""Weights of models of images in models of clips: a still clip has the logits of its image."""

from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.layers.base import EXPLAIN
from imgcls.models.weights import load as weights
from imgcls.models.weights.inflate import center
from imgcls.models.weights.tables import layouts
from tests.models.test_resnet import formula

KEY = jax.random.key(0)
NET: dict[str, Any] = dict(width=8, stage_sizes=(1, 1))
VIT: dict[str, Any] = dict(width=12, depth=2, num_heads=2, mlp_dim=16)
IMAGE = np.sin(np.arange(16 * 16 * 3) ** 1.2).reshape(1, 16, 16, 3).astype(np.float32)


class Pair:
    """A model of images and a model of clips with its weights.

    Attributes:
      image, clip: the models.
      of_image, of_clip: their variables; those of the clips that are new are waves too.
      report: of the loading.
    """

    def __init__(self, image: str, clip: str, options, frames: int, path=None, more=None):
        self.image = create_model(image, 5, **options)
        own = {"backbone": image, "backbone_options": options} if clip in FRAMES else options
        self.clip = create_model(clip, 5, **{**own, **(more or {})})
        self.of_image = formula(jax.eval_shape(self.image.init, KEY, IMAGE))
        wanted = formula(jax.eval_shape(self.clip.init, KEY, still(frames)))
        if path is None:
            trained = self.of_image
        else:
            trained = None
            save_file(weights.dump(self.image, self.of_image, layouts(self.image)[0]), path)
        loaded, self.report = weights.load(str(path), self.clip, wanted, trained=trained)
        self.of_clip = merge(wanted, loaded)

    def logits(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the image, and of a still clip of it."""
        image, clip = jax.jit(self.image.apply), jax.jit(self.clip.apply)
        return image(self.of_image, IMAGE), clip(self.of_clip, still(frames))


RECURRENT = ("cnn_lstm", "cnn_gru", "cnn_rnn")
FRAMES = ("frame_average", *RECURRENT)


def still(frames: int) -> np.ndarray:
    return np.repeat(IMAGE[:, None], frames, axis=1)


def merge(tree, other):
    """`tree` with the leaves of `other`."""
    if not isinstance(tree, dict):
        return other
    return {k: merge(v, other[k]) if k in other else v for k, v in tree.items()}


@pytest.mark.parametrize(("clip", "frames"), [("c2d_r50", 4), ("frame_average", 3)])
def test_still_clip(clip, frames, tmp_path):
    pair = Pair("resnet50", clip, NET, frames, tmp_path / "w.safetensors")
    image, logits = pair.logits(frames)
    if clip == "frame_average":
        # The head is not that of the backbone.
        head = pair.of_image["params"]["head"]
        features = pair.clip.apply(pair.of_clip, still(frames), features=True)
        logits = features @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(logits, image, rtol=1e-5, atol=1e-5)
    assert not [line for line in pair.report.adapted if "inflated" in line]


@pytest.mark.parametrize(
    ("clip", "image", "frames", "middle"),
    [
        ("i3d_r50", "resnet50", 24, 5),
        ("slow_r50", "resnet50", 5, 2),
        ("tsm", "resnet50", 7, 3),
        ("tsm_r18", "resnet18", 7, 3),
        ("r3d_18", "resnet18", 24, 5),
        ("mc3_18", "resnet18", 7, 3),
    ],
)
def test_middle_of_a_still_clip(clip, image, frames, middle):
    """Where the zeros before and after the clip do not reach, the map is that of the image."""
    # R3D has no pooling in its stem, which images need for the same map.
    options = {**NET, "stage_sizes": (1, 1, 1)} if clip == "slow_r50" else NET
    pair = Pair(image, clip, options, frames, more=dict(stem_pool=True))

    @jax.jit
    def maps(image, clip):
        flat = pair.image.apply(pair.of_image, image, mutable=[EXPLAIN])[1]
        deep = pair.clip.apply(pair.of_clip, clip, mutable=[EXPLAIN])[1]
        return flat[EXPLAIN]["map"], deep[EXPLAIN]["map"]

    flat, deep = maps(IMAGE, still(frames))
    np.testing.assert_allclose(deep[:, middle], flat, rtol=1e-5, atol=1e-5)
    head = pair.of_image["params"]["head"]
    of_image = jax.jit(pair.image.apply)(pair.of_image, IMAGE)
    of_middle = deep[:, middle].mean(axis=(1, 2)) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(of_middle, of_image, rtol=1e-5, atol=1e-5)
    assert ("kernels (inflated)" in pair.report.adapted) == ("tsm" not in clip)


@pytest.mark.parametrize("clip", RECURRENT)
def test_frames_of_recurrent_networks(clip, tmp_path):
    """Every frame has the features of the image; what is over frames is new."""
    path = tmp_path / "w.safetensors"
    pair = Pair("resnet18", clip, NET, 3, path, more=dict(units=4, bidirectional=True))

    @jax.jit
    def features(image, clip):
        pick = dict(capture_intermediates=lambda m, _: m.name == "backbone")
        state = pair.clip.apply(pair.of_clip, clip, **pick, mutable="intermediates")[1]
        of_frames = state["intermediates"]["backbone"]["__call__"][0]
        return pair.image.apply(pair.of_image, image, features=True), of_frames

    of_image, of_frames = features(IMAGE, still(3))
    assert of_frames.shape == (3, 16) and pair.report.new == ["across", "head"]
    np.testing.assert_allclose(of_frames, np.repeat(of_image, 3, axis=0), rtol=1e-5, atol=1e-5)


def test_still_clip_of_timesformer(tmp_path):
    """With `time_proj` and the positions in time as they start: zeros."""
    pair = Pair("vit_ti4", "timesformer_ti4", VIT, 3, tmp_path / "w.safetensors")
    params = pair.of_clip["params"]
    params["time_embed"] = np.zeros_like(params["time_embed"])
    for block in ("block0", "block1"):
        params[block]["time_proj"] = jax.tree.map(np.zeros_like, params[block]["time_proj"])
        image = pair.of_image["params"][block]
        for over_time, over_space in (("time_attn", "attn"), ("time_norm", "norm1")):
            jax.tree.map(np.testing.assert_array_equal, params[block][over_time], image[over_space])
    image, logits = pair.logits(3)
    np.testing.assert_allclose(logits, image, rtol=1e-5, atol=1e-5)
    assert set(pair.report.new) == {"time_embed", "time_proj"}
    assert pair.report.adapted == ["attention over time (as over space)"]


def test_still_clip_of_vivit(tmp_path):
    """The class token of every pair of frames is that of the image; what is over frames is new."""
    pair = Pair("vit_ti4", "vivit_ti4x2", {**VIT, "depth": 1}, 6, tmp_path / "w.safetensors")

    @jax.jit
    def tokens(image, clip):
        pick = dict(capture_intermediates=lambda m, _: m.name == "norm", mutable="intermediates")
        state = pair.clip.apply(pair.of_clip, clip, **pick)[1]
        features = pair.image.apply(pair.of_image, image, features=True)
        return features, state["intermediates"]["norm"]["__call__"][0][:, 0]

    features, of_pairs = tokens(IMAGE, still(6))
    assert of_pairs.shape == (3, 12)
    np.testing.assert_allclose(of_pairs, np.repeat(features, 3, axis=0), rtol=1e-5, atol=1e-5)
    blocks = {f"time_block{index}" for index in range(4)}
    assert set(pair.report.new) == {"time_cls_token", "time_pos_embed", "time_norm", *blocks}
    kernel = pair.of_image["params"]["patch_embed"]["kernel"]
    np.testing.assert_array_equal(center(kernel, 3), np.stack([0 * kernel, kernel, 0 * kernel]))


def test_backbone_of_frames(tmp_path):
    """The head of other classes is left out, and colors are summed."""
    more = dict(in_channels=1, num_classes=2)
    net = create_model("resnet18", 7, **NET)
    image = formula(jax.eval_shape(net.init, KEY, IMAGE))
    save_file(weights.dump(net, image, layouts(net)[0]), tmp_path / "w.safetensors")
    model = create_model("cnn_lstm", units=4, backbone_options=NET, **more)
    wanted = jax.eval_shape(model.init, KEY, still(2)[..., :1])
    loaded, report = weights.load(f"timm:{tmp_path / 'w.safetensors'}", model, wanted)
    block = loaded["params"]["backbone"]["layer1_0"]
    jax.tree.map(np.testing.assert_array_equal, block, image["params"]["layer1_0"])
    assert report.new == ["across", "head"] and report.adapted == ["conv1 (3 -> 1 channels)"]


def test_a_file_of_clips_must_be_complete():
    """Only weights of images may lack what is over time."""
    model = create_model("timesformer_ti4", 5, **VIT)
    variables = formula(jax.eval_shape(model.init, KEY, still(3)))
    del variables["params"]["block1"]["time_proj"]
    wanted = jax.eval_shape(model.init, KEY, still(3))
    with pytest.raises(ConfigError, match="has no weights for block1/time_proj"):
        weights.load("/runs/1", model, wanted, trained=variables)


def test_weights_that_do_not_fit():
    """R(2+1)D has convolutions that images do not have."""
    model = create_model("r2plus1d_18", 5, **NET)
    image = formula(jax.eval_shape(create_model("resnet18", 5, **NET).init, KEY, IMAGE))
    wanted = jax.eval_shape(model.init, KEY, still(2))
    with pytest.raises(ConfigError, match="has no weights for conv1/"):
        weights.load("/runs/1", model, wanted, trained=image)


@pytest.mark.parametrize(
    ("project", "name", "path", "theirs"),
    [
        # mit-han-lab/temporal-shift-module, ops/temporal_shift.py and ops/models.py.
        ("tsm", "tsm", "conv1/kernel", "base_model.conv1.weight"),
        ("tsm", "tsm", "layer1_0/conv1/kernel", "base_model.layer1.0.conv1.net.weight"),
        ("tsm", "tsm", "layer1_0/conv2/kernel", "base_model.layer1.0.conv2.weight"),
        (
            "tsm",
            "tsm",
            "layer2_0/downsample_bn/mean",
            "base_model.layer2.0.downsample.1.running_mean",
        ),
        ("tsm", "tsm", "head/bias", "new_fc.bias"),
        # facebookresearch/TimeSformer, timesformer/models/vit.py.
        ("timesformer", "timesformer_b16", "time_embed", "model.time_embed"),
        (
            "timesformer",
            "timesformer_b16",
            "block3/time_attn/qkv/kernel",
            "model.blocks.3.temporal_attn.qkv.weight",
        ),
        (
            "timesformer",
            "timesformer_b16",
            "block3/time_norm/scale",
            "model.blocks.3.temporal_norm1.weight",
        ),
        (
            "timesformer",
            "timesformer_b16",
            "block3/time_proj/bias",
            "model.blocks.3.temporal_fc.bias",
        ),
        ("timesformer", "timesformer_b16", "patch_embed/kernel", "model.patch_embed.proj.weight"),
        ("timesformer", "timesformer_b16", "head/kernel", "model.head.weight"),
    ],
)
def test_names_of_projects_that_are_no_packages(project, name, path, theirs):
    model = create_model(name, 400)
    assert layouts(model, project)[0].names(path, model) == [theirs]
