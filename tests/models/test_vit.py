"""ViT: sizes, parameter names, options, and a block against NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.layers.positions import resample_positions, sincos_positions
from imgcls.models.layers.transformer import Block

KEY = jax.random.key(0)


def shapes(model, size=224):
    return jax.eval_shape(model.init, KEY, jnp.zeros((1, size, size, 3)))


def tiny(**options):
    sizes = dict(width=8, depth=2, num_heads=2, mlp_dim=16)
    return create_model("vit_ti4", 3, **{**sizes, **options})


def random_like(tree):
    """Random arrays with the shapes of a tree; NumPy avoids a compilation per shape."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), tree)


def random_variables(model, size=8):
    """Random variables of a model, because its initial head is zero."""
    return random_like(shapes(model, size))


def random_images():
    return np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit_ti16", 5_717_416),
        ("vit_s16", 22_050_664),
        ("vit_b16", 86_567_656),
        ("vit_b32", 88_224_232),
        ("vit_l16", 304_326_632),
        ("vit_h14", 632_045_800),
    ],
)
def test_parameter_count(name, count):
    leaves = jax.tree.leaves(shapes(create_model(name, 1000)))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == count


def test_parameter_names_and_shapes():
    params = shapes(create_model("vit_s16", 10, layer_scale=1e-4))["params"]
    blocks = {f"block{index}" for index in range(12)}
    assert set(params) == blocks | {"patch_embed", "cls_token", "pos_embed", "norm", "head"}
    block = params["block0"]
    assert set(block) == {"norm1", "attn", "ls1", "norm2", "mlp", "ls2"}
    assert block["attn"]["qkv"]["kernel"].shape == (384, 3, 6, 64)
    assert block["attn"]["proj"]["kernel"].shape == (6, 64, 384)
    assert block["mlp"]["fc1"]["kernel"].shape == (384, 1536)
    assert block["mlp"]["fc2"]["kernel"].shape == (1536, 384)
    assert params["pos_embed"].shape == (1, 197, 384)


def test_options_change_the_parameters():
    params = shapes(tiny(pool="gap", pos_embed="sincos2d"), 8)["params"]
    assert "cls_token" not in params and "pos_embed" not in params
    assert shapes(tiny(pool="gap"), 8)["params"]["pos_embed"].shape == (1, 4, 8)


def test_initialization():
    params = jax.jit(tiny(width=64, depth=1).init)(KEY, jnp.zeros((1, 8, 8, 3)))["params"]
    assert not params["head"]["kernel"].any()
    block = params["block0"]
    for path, limit in (
        (("attn", "qkv"), math.sqrt(6 / 128)),  # as three separate 64 x 64 matrices
        (("attn", "proj"), math.sqrt(6 / 128)),
        (("mlp", "fc1"), math.sqrt(6 / 80)),
    ):
        kernel = jnp.abs(block[path[0]][path[1]]["kernel"])
        assert 0.95 * limit < kernel.max() <= limit
    assert 0 < jnp.abs(block["mlp"]["fc1"]["bias"]).max() < 1e-5


def test_bfloat16_computes_in_bfloat16_with_float32_ends():
    model = tiny(dtype="bfloat16", layer_scale=0.1)
    x = jnp.zeros((2, 8, 8, 3))
    logits, state = jax.eval_shape(
        lambda x: model.init_with_output(KEY, x, capture_intermediates=True), x
    )
    assert logits.dtype == jnp.float32 and logits.shape == (2, 3)
    assert state["intermediates"]["block1"]["__call__"][0].dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state["params"]))


@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_head_reads_the_features(pool):
    model = tiny(pool=pool)
    state = random_variables(model)
    x = random_images()
    both = jax.jit(lambda s: (model.apply(s, x), model.apply(s, x, features=True)))
    logits, features = both(state)
    head = state["params"]["head"]
    np.testing.assert_allclose(
        logits, features @ head["kernel"] + head["bias"], rtol=1e-5, atol=1e-5
    )


def test_remat_changes_nothing():
    state = random_variables(tiny())
    x = random_images()
    results = []
    for remat in (False, True):
        model = tiny(remat=remat, drop_rate=0.2, drop_path=0.2)
        rngs = {"dropout": jax.random.key(3)}
        loss = lambda s, m=model, r=rngs: jnp.sum(m.apply(s, x, train=True, rngs=r) ** 2)  # noqa: E731
        results.append(jax.jit(jax.value_and_grad(loss))(state))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *results)


@pytest.mark.parametrize("options", [{}, dict(remat=True, layer_scale=0.1), dict(pool="gap")])
def test_scan_changes_neither_parameters_nor_outputs(options):
    x, results = random_images(), []
    for scan in (False, True):
        model = tiny(scan=scan, depth=3, **options)
        variables = random_variables(model)

        def loss(params, model=model):
            return jnp.sum(model.apply({"params": params}, x, train=True) ** 2)

        results.append((jax.jit(jax.value_and_grad(loss))(variables["params"]), variables))
    plain, scanned = results
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(scanned), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5 * float(np.abs(a).max()))


def test_scan_compiles_one_block():
    def text(scan):
        model = tiny(scan=scan, depth=6)
        return jax.jit(model.apply).lower(shapes(model, 8), random_images()).as_text()

    # The softmax of each compiled block has one exponential.
    assert text(True).count("exponential") == 1
    assert text(False).count("exponential") == 6


def test_scan_drops_branches_at_the_rate_of_each_block():
    model = tiny(scan=True, depth=4, drop_path=0.5, pool="gap")
    variables, x = (
        random_variables(model),
        jnp.repeat(jnp.asarray(random_images()[:1]), 256, axis=0),
    )

    @jax.jit
    def run(key):
        return model.apply(variables, x, train=True, rngs={"dropout": key})

    kinds = len(np.unique(np.round(run(jax.random.key(1)), 4), axis=0))
    # The first block is never dropped; the other three have two branches each.
    assert 16 < kinds <= 2**6
    np.testing.assert_array_equal(run(jax.random.key(1)), run(jax.random.key(1)))
    assert np.any(run(jax.random.key(1)) != run(jax.random.key(2)))


def test_dropout_is_only_in_training_and_deterministic_in_the_rng():
    model = tiny(drop_rate=0.3, drop_path=0.3)
    state = random_variables(model)
    x = random_images()
    evaluate = jax.jit(lambda s: (model.apply(s, x), tiny().apply(s, x)))
    np.testing.assert_array_equal(*evaluate(state))
    train = jax.jit(lambda key: model.apply(state, x, train=True, rngs={"dropout": key}))
    np.testing.assert_array_equal(train(jax.random.key(1)), train(jax.random.key(1)))
    assert (train(jax.random.key(1)) != train(jax.random.key(2))).any()


def test_block_against_numpy():
    block = Block(
        num_heads=2,
        mlp_dim=12,
        drop_rate=0.0,
        drop_path=0.0,
        layer_scale=0.5,
        dtype=jnp.dtype("float32"),
    )
    x = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32)
    state = random_like(jax.eval_shape(lambda x: block.init(KEY, x, False), x))
    y = jax.jit(lambda s: block.apply(s, x, False))(state)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state["params"])

    def layer_norm(x, p):
        deviation = x - x.mean(axis=-1, keepdims=True)
        return deviation / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]

    def attention(x, p):
        heads = []
        for head in range(2):
            query, key, value = (
                x @ p["qkv"]["kernel"][:, i, head] + p["qkv"]["bias"][i, head] for i in range(3)
            )
            weights = np.exp(query @ key.T / math.sqrt(3))
            weights /= weights.sum(axis=-1, keepdims=True)
            heads.append(weights @ value @ p["proj"]["kernel"][head])
        return sum(heads) + p["proj"]["bias"]

    def mlp(x, p):
        x = x @ p["fc1"]["kernel"] + p["fc1"]["bias"]
        x = x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
        return x @ p["fc2"]["kernel"] + p["fc2"]["bias"]

    for tokens, result in zip(np.asarray(x, np.float64), y, strict=True):
        branch = attention(layer_norm(tokens, params["norm1"]), params["attn"])
        tokens = tokens + params["ls1"]["gamma"] * branch
        branch = mlp(layer_norm(tokens, params["norm2"]), params["mlp"])
        expected = tokens + params["ls2"]["gamma"] * branch
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_sincos2d():
    table = sincos_positions((2, 3), 8)
    assert table.shape == (6, 8) and table.dtype == np.float32
    # Row 1, column 2 at frequencies 1 and 1 / 10,000.
    x, y = 2.0, 1.0
    expected = [f(p / w) for p in (x, y) for f in (math.sin, math.cos) for w in (1, 10_000)]
    np.testing.assert_allclose(table[5], expected, rtol=1e-6)


@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_sincos2d_is_added_to_patches_but_not_to_the_class_token(pool):
    model = tiny(pos_embed="sincos2d", pool=pool, depth=0)  # embedding, norm and pooling alone
    params = random_variables(model)["params"]
    params["norm"] = {"scale": np.ones(8), "bias": np.zeros(8)}
    features = model.apply({"params": params}, jnp.zeros((1, 8, 8, 3)), features=True)[0]
    if pool == "cls":
        tokens = params["cls_token"][0]
    else:
        tokens = params["patch_embed"]["bias"] + sincos_positions((2, 2), 8)
    deviation = tokens - tokens.mean(axis=1, keepdims=True)
    expected = np.mean(deviation / tokens.std(axis=1, keepdims=True), axis=0)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({}, 10, "10x10 do not divide into patches of 4"),
        ({"pool": "max"}, 8, "pool is 'max': write 'cls' or 'gap' or 'map'"),
        ({"pos_embed": "rope"}, 8, "pos_embed is 'rope': write 'learned' or 'sincos2d'"),
        ({"pos_embed": "sincos2d", "width": 6}, 8, "multiple of 4, not 6"),
        ({"distilled": True, "pool": "gap"}, 8, "write pool='cls'"),
        ({"num_heads": 3}, 8, "width 8 does not divide into 3 heads"),
    ],
)
def test_mistakes(options, size, message):
    with pytest.raises(ConfigError, match=message):
        shapes(tiny(**options), size)


def test_model_accepts_images_of_another_size():
    state = random_variables(tiny())
    x = jax.random.normal(KEY, (2, 16, 24, 3))
    larger = jax.tree.map(lambda leaf: leaf, state)
    larger["params"]["pos_embed"] = resample_positions(state["params"]["pos_embed"], (4, 6), 1)
    np.testing.assert_allclose(tiny().apply(state, x), tiny().apply(larger, x), rtol=1e-5)


def test_positions_of_a_grid_that_is_not_square_are_rejected():
    with pytest.raises(ConfigError, match="7 tokens, of which 1 are not patches"):
        resample_positions(jnp.zeros((1, 7, 4)), (2, 2), 1)


def test_distilled_logits_are_the_mean_of_two_heads():
    model = tiny(distilled=True)
    state = random_variables(model)
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    heads = []
    for name in ("head", "head_dist"):
        # With the other head at zero, the logits are half of this head's.
        alone = jax.tree.map(lambda leaf: leaf, state)
        other = "head_dist" if name == "head" else "head"
        alone["params"][other] = jax.tree.map(jnp.zeros_like, alone["params"][other])
        heads.append(2 * model.apply(alone, x))
    assert np.abs(heads[0] - heads[1]).max() > 1e-3
    np.testing.assert_allclose(model.apply(state, x), (heads[0] + heads[1]) / 2, rtol=1e-5)


def formula(tree):
    """Reproducible weights for another program: cos(i ** 1.5 + n) for leaf n, scaled."""
    leaves, structure = jax.tree.flatten(tree)

    def wave(number, leaf):
        values = np.cos(np.arange(leaf.size) ** 1.5 + number).reshape(leaf.shape)
        fan_in = leaf.size // leaf.shape[-1]
        scaled = 1 + 0.3 * values if leaf.ndim == 1 else values * math.sqrt(2 / fan_in)
        return scaled.astype(np.float32)

    return jax.tree.unflatten(structure, [wave(*item) for item in enumerate(leaves)])


def test_logits_equal_those_of_timm():
    """timm 1.0.31's VisionTransformer in float64 with the same weights."""
    x = np.sin(np.arange(2 * 32 * 32 * 3) ** 1.2).reshape(2, 32, 32, 3).astype(np.float32)
    model = create_model("vit_ti8", 3, depth=2, width=16, num_heads=2, mlp_dim=32)
    logits = jax.jit(model.apply)(formula(shapes(model, 32)), x)
    expected = [[0.91483668, -1.47823492, 2.3377864], [0.92548762, -1.46251712, 2.29774412]]
    np.testing.assert_allclose(logits, expected, rtol=1e-4)
