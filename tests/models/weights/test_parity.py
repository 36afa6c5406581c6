"""Logits against those of the original projects: `pytest -m parity`, requirements-parity.txt.

`test_recorded` compares small models with logits recorded from them; here the models are whole, and
both sides run.
"""

import functools

import jax
import numpy as np
import pytest
from flax import traverse_util

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.registry import model_entry
from imgcls.models.weights import load as weights_lib
from imgcls.models.weights.tables import layouts, timm_name
from tests.models.weights import reference
from tests.models.weights.cases import (
    CASES,
    CLASSES,
    bn_inception,
    pytorchvideo,
    random_images,
    slowfast,
    timesformer,
    timm,
    torchvision,
    torchvision_video,
)
from tests.models.weights.test_recorded import EXPECTED

pytestmark = pytest.mark.parity
pytest.importorskip("torch", reason="needs requirements-parity.txt")

WHOLE = {
    "alexnet": ("torchvision", torchvision("alexnet")),
    "vgg16": ("timm", timm("vgg16")),
    "vgg16_bn": ("torchvision", torchvision("vgg16_bn")),
    "inception_v1": ("torchvision", torchvision("googlenet", init_weights=False)),
    "inception_v2": ("cadene", bn_inception),
    "inception_v3": ("timm", timm("inception_v3", aux_logits=True)),
    **{
        name: ("timm", timm(timm_name(name)))
        for name in (
            *("resnet18", "resnet50", "seresnet50", "resnext50_32x4d", "resnest50d"),
            *("resnet50d", "wide_resnet50_2"),
            *("resnest101e", "regnetx_400mf", "regnety_800mf", "regnety_800mf_tv"),
            *("vit_ti16", "vit_b32", "deit_ti16_distilled", "deit3_s16"),
        )
    },
    "regnetx_400mf_tv": ("torchvision", torchvision("regnet_x_400mf")),
    "regnety_8gf_tv": ("torchvision", torchvision("regnet_y_8gf")),
    "vit_b16": ("torchvision", torchvision("vit_b_16")),
    **{
        name: ("torchvision", torchvision_video(name))
        for name in ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")
    },
    **{
        name: ("pytorchvideo", pytorchvideo(name, (3, 4, 6, 3), window))
        for name, window in (
            ("c2d_r50", (4, 7, 7)),
            ("i3d_r50", (4, 7, 7)),
            ("slow_r50", (8, 7, 7)),
        )
    },
    "slowfast_r50_8x8": ("pytorchvideo", slowfast()),
    "timesformer_b16": ("transformers", timesformer()),
}
# Frames of models of clips that were designed for more.
FRAMES = {"s3d": 16}


def relative_error(ours, theirs) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def our_logits(model, variables, images, train):
    @jax.jit
    def apply(variables, x):
        mutable = [*variables, "intermediates"] if train else False
        return model.apply(variables, x, train=train, mutable=mutable)

    outputs = apply(variables, images)
    if not train:
        return [outputs]
    return [outputs[0], *outputs[1].get("intermediates", {}).get("aux_logits", ())]


def images_of(name):
    """Images or clips of the size that the model was designed for."""
    entry = model_entry(name)
    return random_images(entry.input_size, FRAMES.get(name, entry.input_frames))


def model_and_shapes(name, images):
    options = {"aux_drop_rate": 0.0} if name == "inception_v1" else {}
    model = create_model(name, CLASSES, drop_rate=0.0, **options)
    return model, jax.eval_shape(model.init, jax.random.key(0), images[:1])


@pytest.mark.parametrize("name", WHOLE)
def test_logits(name, tmp_path):
    import torch

    project, make = WHOLE[name]
    images = images_of(name)
    theirs = make()
    arrays = reference.state_dict(theirs)
    # As torch writes it: read back through its weights-only loading.
    torch.save({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}, tmp_path / "w.pth")
    model, shapes = model_and_shapes(name, images)
    variables, _ = weights_lib.load(f"{project}:{tmp_path / 'w.pth'}", model, shapes)
    for train in (False, True) if "batch_stats" in shapes else (False,):
        expected = reference.logits(theirs, arrays, images, train)
        found = our_logits(model, variables, images, train)
        errors = [relative_error(*pair) for pair in zip(found, expected, strict=True)]
        print(name, "training" if train else "evaluation", [f"{e:.1e}" for e in errors])
        assert max(errors) < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_recorded_logits_are_up_to_date(name):
    for mode, outputs in reference.expected(CASES[name]).items():
        for found, recorded in zip(outputs, EXPECTED[name][mode], strict=True):
            assert relative_error(np.array(found), np.array(recorded)) < 1e-4


@pytest.mark.parametrize("project", [0, 1], ids=["vision_transformer", "big_vision"])
def test_npz_is_read_as_timm_reads_it(project, tmp_path):
    model, shapes = model_and_shapes("vit_b32", random_images(224))
    layout = layouts(model, "augreg")[project]
    rng = np.random.default_rng(0)
    arrays = {}
    for path, leaf in traverse_util.flatten_dict(shapes["params"], sep="/").items():
        names = layout.names(path, model)
        shape = list(leaf.shape)
        if len(names) > 1:
            shape.pop(len(shape) - 3)
        for name in names:
            arrays[name] = rng.normal(0, 0.05, shape).astype(np.float32)
    prefix = ["", "params/"][project]
    np.savez(tmp_path / "w.npz", **{prefix + name: array for name, array in arrays.items()})
    variables, report = weights_lib.load(f"augreg:{tmp_path / 'w.npz'}", model, shapes)
    assert not (report.adapted or report.new or report.left_out)

    theirs = timm("vit_base_patch32_224")()
    theirs.load_pretrained(tmp_path / "w.npz")
    arrays = {name: array.numpy() for name, array in theirs.state_dict().items()}
    expected = reference.logits(theirs, arrays, random_images(224), False)
    found = our_logits(model, variables, random_images(224), False)
    assert relative_error(found[0], expected[0]) < 1e-4


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pth_is_not_unpickled(tmp_path):
    import torch

    trap = tmp_path / "trap"
    torch.save({"conv1.weight": Malicious(trap)}, tmp_path / "w.pth")
    model, shapes = model_and_shapes("resnet18", random_images(64))
    with pytest.raises(ConfigError, match="w.pth is refused: it contains more than arrays"):
        weights_lib.load(f"timm:{tmp_path / 'w.pth'}", model, shapes)
    assert not trap.exists()


def test_positions_are_resampled_as_in_timm():
    import torch
    from timm.layers import resample_abs_pos_embed

    from imgcls.models.layers.positions import resample_positions

    positions = np.random.default_rng(0).normal(size=(1, 1 + 14 * 14, 8)).astype(np.float32)
    for grid in ((24, 24), (7, 7), (10, 18)):
        expected = resample_abs_pos_embed(
            torch.from_numpy(positions), list(grid), num_prefix_tokens=1
        )
        found = jax.jit(functools.partial(resample_positions, grid=grid, prefix=1))(positions)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
