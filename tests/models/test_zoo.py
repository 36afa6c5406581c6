"""Every registered model: parameters, multiply-adds, input sizes, and training."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imgcls.core.errors import ConfigError
from imgcls.core.flops import count_flops
from imgcls.losses.classification import softmax_cross_entropy
from imgcls.models.__main__ import measure_size
from imgcls.models.create import create_model
from imgcls.models.registry import list_models, model_entry

# (parameters, billions of multiply-adds) for 1,000 classes, or 400 of clips, from papers,
# torchvision, timm, pytorchvideo and transformers.
PUBLISHED = {
    "alexnet": (61_100_840, 0.714),
    "deit_b16_distilled": (87_338_192, None),
    "densenet121": (7_978_856, 2.834),
    "densenet161": (28_681_000, 7.728),
    "densenet169": (14_149_480, 3.36),
    "densenet201": (20_013_928, 4.291),
    "inception_v1": (13_004_888, 1.498),
    "inception_v2": (11_295_240, None),
    "inception_v3": (27_161_264, 5.713),
    "regnetx_32gf": (107_811_560, 31.736),
    "regnetx_400mf_tv": (5_495_976, 0.414),
    "regnety_1_6gf": (11_202_430, 1.612),
    "regnety_3_2gf": (19_436_338, 3.176),
    "regnety_400mf": (4_344_144, 0.402),
    "regnety_16gf": (83_590_140, 15.912),
    "regnety_32gf": (145_046_770, 32.28),
    "regnety_800mf": (6_263_168, None),
    "regnety_800mf_tv": (6_432_512, 0.834),
    "regnety_8gf": (39_180_068, None),
    "regnety_8gf_tv": (39_381_472, 8.473),
    "resnest101e": (48_275_016, None),
    "resnest50d": (27_483_240, None),
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "resnet152": (60_192_808, 11.514),
    "resnet50d": (25_576_264, None),
    "resnext101_32x8d": (88_791_336, 16.414),
    "resnext50_32x4d": (25_028_904, 4.23),
    "seresnet50": (28_088_024, None),
    # Of clips. SlowFast: pytorchvideo's, the first with kernels of 5 between the pathways;
    # TimeSformer: transformers' `TimesformerForVideoClassification`; TSM: a ResNet-50, since the
    # shift has no parameters; ViViT: 115.1 million in table 2 of the paper.
    "c2d_r50": (24_327_632, None),
    "i3d_r50": (28_043_472, None),
    "mc3_18": (11_695_440, 43.343),
    "r2plus1d_18": (31_505_325, 40.519),
    "r3d_18": (33_371_472, 40.697),
    "s3d": (8_320_048, None),
    "slow_r50": (32_454_096, None),
    "slowfast_r50": (34_480_216, None),
    "slowfast_r50_8x8": (34_566_488, None),
    "timesformer_b16": (121_566_352, None),
    "tsm": (24_327_632, None),
    "vivit_b16x2": (115_062_928, None),
    "vgg11": (132_863_336, 7.609),
    "vgg16": (138_357_544, 15.47),
    "vgg16_bn": (138_365_992, 15.47),
    "vgg19": (143_667_240, 19.632),
    "vgg19_bn": (143_678_248, 19.632),
    "vit_b16": (86_567_656, 17.564),
    "vit_l16": (304_326_632, 61.555),
    "vit_s16": (22_050_664, None),
    "vit_ti16": (5_717_416, None),
    "wide_resnet101_2": (126_886_696, 22.753),
    "wide_resnet50_2": (68_883_240, 11.398),
}


SLOW = {"marks": pytest.mark.slow}
# Of a family of clips, of which another is counted by default.
_ANOTHER = ("c2d_r50", "mc3_18", "slowfast_r50_8x8", "tsm")


@pytest.mark.parametrize(
    "name", [pytest.param(n, **SLOW) if n in _ANOTHER else n for n in PUBLISHED]
)
def test_parameters_and_multiply_adds(name):
    parameters, gflops = PUBLISHED[name]
    size = measure_size(name)
    assert size.parameters == parameters
    if gflops is not None:
        assert round(size.multiply_adds / 1e9, 3) == gflops


@pytest.mark.parametrize(
    ("name", "count"), [("inception_v1", 6_624_904), ("inception_v3", 23_834_568)]
)
def test_parameters_without_auxiliary_classifiers(name, count):
    model = create_model(name, aux=False)
    image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count


# The smallest image size of each family, and an odd one (for ViT a multiple of the patch size).
FAMILIES = {
    "airbench94": (9, 101),
    "alexnet": (63, 101),
    "vgg11": (32, 101),
    "inception_v1": (15, 101),
    "inception_v2": (32, 101),
    "inception_v3": (75, 101),
    "seresnet50": (1, 101),
    "resnest50d": (1, 101),
    "regnety_200mf": (1, 101),
    "vit_ti16": (16, 112),
}


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", FAMILIES)
def test_any_channels_and_size(name, channels):
    options = {"aux": False} if name == "inception_v3" else {}
    model = create_model(name, 5, in_channels=channels, **options)
    for height in FAMILIES[name]:
        x = jax.ShapeDtypeStruct((2, height, 2 * height, channels), jnp.float32)
        logits, _ = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), x)
        assert logits.shape == (2, 5) and logits.dtype == jnp.float32
    with pytest.raises(ConfigError, match=f"3 channels, the model takes {channels}"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 112, 112, 3)))


@pytest.mark.parametrize("name", [n for n, (smallest, _) in FAMILIES.items() if smallest > 1])
def test_too_small_images_are_reported(name):
    smallest = FAMILIES[name][0]
    model = create_model(name, 5, **({"aux": False} if name == "inception_v3" else {}))
    with pytest.raises(ConfigError, match=f"{smallest}"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, smallest - 1, 99, 3)))


def test_auxiliary_classifier_with_small_images_is_reported():
    with pytest.raises(ConfigError, match="299 pixels or more, not 224x224: set model.aux=False"):
        jax.eval_shape(
            create_model("inception_v3").init, jax.random.key(0), jnp.zeros((1, 224, 224, 3))
        )


@pytest.mark.parametrize(
    "name",
    [pytest.param("inception_v1", **SLOW), pytest.param("resnest50d", **SLOW), "regnety_200mf"],
)
def test_remat_recomputes_blocks_and_keeps_parameters(name):
    """The backward pass contains the forward pass of the blocks again."""
    x = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    costs, names = [], []
    for remat in (False, True):
        model = create_model(name, 5, drop_rate=0.0, remat=remat)
        variables = jax.eval_shape(model.init, jax.random.key(0), x)

        def loss(params, state, x, model=model):
            rngs = {"dropout": jax.random.key(0)}
            mutable = [*state, "intermediates"]
            logits, _ = model.apply(
                {"params": params, **state}, x, train=True, mutable=mutable, rngs=rngs
            )
            return logits.sum()

        state = {"batch_stats": variables["batch_stats"]}
        jaxpr = jax.make_jaxpr(jax.grad(loss))(variables["params"], state, x)
        costs.append(count_flops(jaxpr.jaxpr))
        names.append(jax.tree.map(lambda leaf: leaf.shape, variables))
    assert names[0] == names[1]
    assert costs[1] > 1.1 * costs[0]


# Models in the default tests; compiling the others takes minutes.
QUICK = {"resnet18"}


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in list_models()
    ],
)
def test_training_steps_lower_the_loss(name):
    """The loss of a repeated batch decreases at every step."""
    # At 64 pixels the last norms of Inception V3 would have four values each.
    size = {"inception_v3": 139}.get(name, 64)
    # Dropout in auxiliary classifiers would hide the progress of so few steps.
    options = {"inception_v3": {"aux": False}, "inception_v1": {"aux_drop_rate": 0.0}}.get(name, {})
    entry = model_entry(name)
    size -= size % entry.defaults.get("patch_size", 1)
    shape = (4, *(size if entry.spatial_axes == 2 else 32,) * entry.spatial_axes, 3)
    model = create_model(name, 4, drop_rate=0.0, **options)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    labels = jnp.arange(4)

    @jax.jit
    def init():
        state = dict(model.init(jax.random.key(0), x[:1]))
        return state.pop("params"), state

    def loss(params, state, x):
        logits, state = model.apply(
            {"params": params, **state}, x, train=True, mutable=[*state, "intermediates"]
        )
        aux = state.pop("intermediates", {}).get("aux_logits", ())
        losses = [softmax_cross_entropy(l, labels).mean() for l in (logits, *aux)]
        return losses[0] + 0.3 * sum(losses[1:]), dict(state)

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.005))

    def step(params, state, x):
        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params, state, x)
        updates, _ = optimizer.update(gradient, optimizer.init(params))
        return optax.apply_updates(params, updates), state, value

    step = jax.jit(step, donate_argnums=(0, 1))
    params, state = init()
    values = []
    for _ in range(3):
        params, state, value = step(params, state, x)
        values.append(float(value))
    assert np.isfinite(values).all()
    assert values[0] > values[1] > values[2], values
