"""Loading of weights that need adaptation, and of files that can't be loaded."""

import importlib.util

import jax
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.weights import load as weights
from imgcls.models.weights.tables import layouts, timm_name

VIT = dict(depth=1, width=16, num_heads=2, mlp_dim=32)
RESNET = dict(stage_sizes=(1, 1), width=16)


def random_variables(model, size: int = 32) -> dict:
    """Random variables of a model; all values differ."""
    images = np.zeros((1, size, size, model.in_channels), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: np.abs(rng.normal(0.5, 0.2, leaf.shape)).astype(np.float32), shapes
    )


def layout_of(model, project):
    return layouts(model, project)[0]


def flat(tree) -> dict:
    return traverse_util.flatten_dict(tree, sep="/")


@pytest.fixture
def vit(tmp_path):
    """(variables, file) of a small ViT with three classes at 32 pixels, in timm's layout."""
    model = create_model("vit_ti8", 3, **VIT)
    variables = random_variables(model)
    file = tmp_path / "model.safetensors"
    save_file(weights.dump(model, variables, layout_of(model, "timm")), file)
    return variables, file


@pytest.fixture
def resnet(tmp_path):
    """(variables, file) of a small ResNet with three classes, in timm's layout."""
    model = create_model("resnet18", 3, **RESNET)
    variables = random_variables(model)
    file = tmp_path / "model.safetensors"
    save_file(weights.dump(model, variables, layout_of(model, "timm")), file)
    return variables, file


def test_names_and_arrays_are_those_of_timm(vit):
    variables, file = vit
    named = load_file(file)
    params = variables["params"]
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "head.bias"} < set(named)
    qkv = params["block0"]["attn"]["qkv"]["kernel"]  # [D, 3, heads, head_dim]
    # Rows of torch's matrix: the heads of the query, then of the key, then of the value.
    np.testing.assert_array_equal(named["blocks.0.attn.qkv.weight"][16 + 8 + 5], qkv[:, 1, 1, 5])
    patch = params["patch_embed"]["kernel"]  # [8, 8, 3, D]
    np.testing.assert_array_equal(named["patch_embed.proj.weight"][7, 2, 3, 4], patch[3, 4, 2, 7])


@pytest.mark.parametrize(
    ("name", "project", "options"),
    [
        ("vit_ti8", "timm", VIT),
        ("vit_ti8", "torchvision", VIT),
        ("deit_ti16_distilled", "timm", VIT),
        ("resnet18", "timm", RESNET),
        ("regnety_200mf", "torchvision", {}),
        ("resnest50d", "timm", {"stage_sizes": (1, 1), "width": 16}),
        ("vgg11_bn", "torchvision", {"widths": (4, 4, 4, 4, 4), "hidden": 8}),
    ],
)
@pytest.mark.parametrize("prefix", [True, False], ids=["named", "recognized"])
def test_dumped_weights_load_again(name, project, options, prefix, tmp_path):
    model = create_model(name, 3, **options)
    variables = random_variables(model)
    file = tmp_path / "model.safetensors"
    save_file(weights.dump(model, variables, layout_of(model, project)), file)
    loaded, report = weights.load(f"{project}:{file}" if prefix else str(file), model, variables)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    count = len(jax.tree.leaves(variables))
    assert str(report).endswith(f"model.safetensors: {count} arrays taken")


@pytest.mark.parametrize(
    ("project", "options"),
    [(0, VIT), (1, VIT), (1, {**VIT, "pool": "map"})],
    ids=["vision_transformer", "big_vision", "siglip"],
)
def test_npz_of_google_research(project, options, tmp_path):
    model = create_model("vit_ti8", 3, **options)
    variables = random_variables(model)
    layout = layouts(model, "augreg")[project]
    arrays = {}
    for path, array in flat(variables["params"]).items():
        names = layout.names(path, model)
        parts = [array] if len(names) == 1 else np.moveaxis(array, -3, 0)
        arrays |= dict(zip(names, parts, strict=True))
    block = ["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"]
    block += ["Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel"]
    assert arrays[block[project]].shape == (16, 2, 8)
    prefix = ["", "params/"][project]
    np.savez(tmp_path / "w.npz", **{prefix + name: array for name, array in arrays.items()})
    loaded, _ = weights.load(f"augreg:{tmp_path / 'w.npz'}", model, variables)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


@pytest.mark.parametrize("head", ["auto", "zero", "fresh"])
def test_head_with_other_classes_is_new(vit, head):
    variables, file = vit
    model = create_model("vit_ti8", 7, **VIT)
    loaded, report = weights.load(f"timm:{file}", model, random_variables(model), head)
    assert str(report).endswith("taken; left out: head (3 classes); new: head (7 classes)")
    if head == "zero":
        assert loaded["params"]["head"]["kernel"].shape == (16, 7)
        assert not loaded["params"]["head"]["kernel"].any()
    else:
        assert "head" not in loaded["params"]


@pytest.mark.parametrize(("head", "taken"), [("auto", True), ("zero", False), ("fresh", False)])
def test_head_with_the_same_number_of_classes(vit, head, taken):
    variables, file = vit
    loaded, report = weights.load(
        f"timm:{file}", create_model("vit_ti8", 3, **VIT), variables, head
    )
    assert ("new: head (3 classes)" not in str(report)) == taken


def logits(name, options, variables, images, **more):
    model = create_model(name, 3, in_channels=images.shape[-1], **options, **more)
    return jax.jit(lambda v, x: model.apply(v, x))(variables, images)


def test_grayscale_images_give_the_same_logits_as_in_color(resnet):
    variables, file = resnet
    gray = np.random.default_rng(1).normal(size=(2, 32, 32, 1)).astype(np.float32)
    model = create_model("resnet18", 3, in_channels=1, **RESNET)
    loaded, report = weights.load(f"timm:{file}", model, random_variables(model))
    assert "adapted: conv1 (3 -> 1 channels)" in str(report)
    expected = logits("resnet18", RESNET, variables, np.repeat(gray, 3, axis=-1))
    np.testing.assert_allclose(
        logits("resnet18", RESNET, loaded, gray), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_images_with_other_channels(resnet, channels):
    variables, file = resnet
    model = create_model("resnet18", 3, in_channels=channels, **RESNET)
    loaded, _ = weights.load(f"timm:{file}", model, random_variables(model))
    stem = loaded["params"]["conv1"]["kernel"]
    kernel = variables["params"]["conv1"]["kernel"]
    assert stem.shape[2] == channels
    for c in range(channels):
        np.testing.assert_allclose(stem[:, :, c], kernel[:, :, c % 3] * 3 / channels, rtol=1e-6)


def test_positions_of_another_resolution(vit):
    """Loading resamples positions in the same way as the model."""
    variables, file = vit
    images = np.random.default_rng(1).normal(size=(2, 48, 48, 3)).astype(np.float32)
    model = create_model("vit_ti8", 3, **VIT)
    loaded, report = weights.load(f"timm:{file}", model, random_variables(model, 48))
    assert "adapted: pos_embed (4x4 -> 6x6)" in str(report)
    assert loaded["params"]["pos_embed"].shape == (1, 37, 16)
    np.testing.assert_allclose(
        logits("vit_ti8", VIT, loaded, images),
        logits("vit_ti8", VIT, variables, images),
        rtol=1e-4,
        atol=1e-5,
    )


def test_class_token_is_left_out_for_average_pooling(vit):
    variables, file = vit
    model = create_model("vit_ti8", 3, pool="gap", **VIT)
    loaded, report = weights.load(f"timm:{file}", model, random_variables(model))
    assert "left out: cls_token" in str(report)
    expected = variables["params"]["pos_embed"][:, 1:]
    np.testing.assert_array_equal(loaded["params"]["pos_embed"], expected)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (
            "deit3_s16",
            "vit_s16",
            "of 4 tokens has no entries before .*embed_prefix=False",
        ),
        ("vit_s16", "deit3_s16", "of 5 tokens has 1 entries before .*embed_prefix=True"),
        ("vit_b16_siglip", "vit_b16 gap", "attn_pool.*; choose model.name='vit_b16_siglip'"),
        ("vit_b16_clip", "vit_b16", "does not have norm_pre.*; choose model.name='vit_b16_clip'"),
        ("vit_s14_reg4_dinov2", "vit_s14_dinov2", "does not have reg_token; set model.registers"),
        ("deit3_s16", "vit_s16 without LayerScale", "blocks.0.ls1.gamma.* set model.layer_scale"),
    ],
)
def test_weights_of_another_kind_of_vit_name_the_option(source, target, words, tmp_path):
    options = dict(VIT, layer_scale=None if "without" in target else 1e-5)
    options |= {"pool": "gap"} if "gap" in target else {}
    size = 28 if "14" in source else 32
    theirs = create_model(source, 3, **dict(VIT, layer_scale=1e-5))
    file = tmp_path / "model.safetensors"
    named = weights.dump(theirs, random_variables(theirs, size), layout_of(theirs, "timm"))
    save_file(named, file)
    model = create_model(target.split()[0], 3, **options)
    with pytest.raises(ConfigError, match=words) as error:
        weights.load(f"timm:{file}", model, random_variables(model, size))
    assert "\n" not in str(error.value)


def test_auxiliary_classifiers(tmp_path):
    full, bare = create_model("inception_v1", 3), create_model("inception_v1", 3, aux=False)
    variables = random_variables(full)
    for model, file in ((full, tmp_path / "aux.safetensors"), (bare, tmp_path / "no.safetensors")):
        save_file(
            weights.dump(model, random_variables(model), layout_of(model, "torchvision")), file
        )
    _, report = weights.load(str(tmp_path / "aux.safetensors"), bare, random_variables(bare))
    assert "left out: aux1, aux2" in str(report)
    loaded, report = weights.load(str(tmp_path / "no.safetensors"), full, variables)
    assert "new: aux1, aux2" in str(report)
    assert "aux1" not in loaded["params"]


def test_timm_names():
    assert timm_name("vit_ti16") == "vit_tiny_patch16_224"
    assert timm_name("deit_s16_distilled") == "deit_small_distilled_patch16_224"
    assert timm_name("vit_l14_clip_quickgelu") == "vit_large_patch14_clip_quickgelu_224"
    assert timm_name("vit_so400m14_siglip") == "vit_so400m_patch14_siglip_224"
    assert timm_name("vit_l16_siglip") == "vit_large_patch16_siglip_256"
    assert timm_name("deit3_h14") == "deit3_huge_patch14_224"
    assert timm_name("vit_l14_dinov2") == "vit_large_patch14_dinov2"
    assert timm_name("vit_b14_reg4_dinov2") == "vit_base_patch14_reg4_dinov2"
    assert timm_name("regnety_400mf") == "regnety_004"
    assert timm_name("regnety_1_6gf") == "regnety_016"
    assert timm_name("regnetx_8gf") == "regnetx_080"
    assert timm_name("regnety_8gf_tv") == "regnety_080_tv"
    assert timm_name("regnety_32gf") == "regnety_320"
    assert timm_name("resnest50d") == "resnest50d"
    assert timm_name("alexnet") is None


def damaged(arrays: dict, how: str) -> dict:
    if how == "extra":
        arrays["blocks.7.mlp.fc1.weight"] = np.zeros(3, np.float32)
    elif how == "missing":
        del arrays["blocks.0.norm1.weight"]
    elif how == "shape":
        arrays["blocks.0.mlp.fc1.weight"] = np.zeros((48, 16), np.float32)
    elif how == "width":
        arrays["blocks.0.attn.qkv.weight"] = np.zeros((24, 8), np.float32)
    elif how == "other":
        arrays = {"encoder.weight": np.zeros(3, np.float32)}
    return arrays


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("extra", "a ViT with these options does not have blocks.7.mlp.fc1.weight"),
        ("missing", "has no weights for block0/norm1/scale"),
        ("shape", r"of shape \[16, 48\] does not fit block0/mlp/fc1/kernel of shape \[16, 32\]"),
        ("width", r"blocks.0.attn.qkv.weight of shape \[24, 8\] does not fit block0/attn/qkv"),
        ("other", "has no weights of a ViT: its names are encoder.weight"),
    ],
)
def test_weights_that_do_not_fit_are_named(vit, how, words, tmp_path):
    variables, file = vit
    save_file(damaged(load_file(file), how), tmp_path / "damaged.safetensors")
    with pytest.raises(ConfigError, match=words) as error:
        weights.load(
            f"timm:{tmp_path / 'damaged.safetensors'}", create_model("vit_ti8", 3, **VIT), variables
        )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["regnety_800mf", "regnetx_400mf"])
def test_torchvision_weights_name_the_variant_of_their_widths(name, tmp_path):
    theirs, ours = create_model(f"{name}_tv", 3), create_model(name, 3)
    file = tmp_path / "regnet.safetensors"
    save_file(
        weights.dump(theirs, random_variables(theirs), layout_of(theirs, "torchvision")), file
    )
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(lambda x: ours.init(jax.random.key(0), x), image)
    with pytest.raises(ConfigError, match=f"torchvision's {name} is model.name={name}_tv$"):
        weights.load(f"torchvision:{file}", ours, shapes)


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_objects_are_not_unpickled(tmp_path):
    trap = tmp_path / "trap"
    objects = np.array([Malicious(trap)], dtype=object)
    np.savez(tmp_path / "w.npz", objects=objects)
    with pytest.raises(ConfigError, match="w.npz can't be read"):
        weights.load(str(tmp_path / "w.npz"), create_model("vit_ti8", 3, **VIT), {"params": {}})
    assert not trap.exists()


@pytest.mark.parametrize(
    ("init_from", "words"),
    [
        ("/no/such.safetensors", "/no/such.safetensors: no such file"),
        ("/no/such.h5", "not a file of weights: write a .safetensors, .npz or .pth"),
        ("keras:/x.safetensors", "unknown project 'keras': write timm:..., torchvision:..."),
        ("torchvision:/no/such.pth", "no such file"),
        ("cadene:BROKEN", "cadene has no ViT"),
        ("timm:BROKEN", "can't be read"),
        ("timm:PTH", "needs torch: run `pip install torch"),
    ],
)
def test_mistakes(init_from, words, tmp_path):
    for name in ("BROKEN.safetensors", "PTH.pth"):
        (tmp_path / name).write_bytes(b"nonsense")
    init_from = init_from.replace("BROKEN", str(tmp_path / "BROKEN.safetensors"))
    init_from = init_from.replace("PTH", str(tmp_path / "PTH.pth"))
    if "torch: run" in words and importlib.util.find_spec("torch"):
        pytest.skip("torch is installed here")
    model = create_model("vit_ti8", 3, **VIT)
    with pytest.raises(ConfigError, match=words) as error:
        weights.load(init_from, model, random_variables(model))
    assert "\n" not in str(error.value)
