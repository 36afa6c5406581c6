"""ViViT against NumPy, and positions in time of Transformers of clips."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf, softmax

from imgcls.models.create import create_model
from imgcls.models.layers.positions import resample_positions
from tests.models.test_resnet import formula

KEY = jax.random.key(0)
SIZES: dict[str, Any] = dict(width=12, depth=2, num_heads=2, mlp_dim=16)
X = np.sin(np.arange(2 * 6 * 4 * 8 * 3) ** 1.2).reshape(2, 6, 4, 8, 3).astype(np.float32)


def norm(x, p):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def attention(x, p):
    """Self-attention of tokens `[N, D]`, one head at a time."""
    heads = []
    for head in range(p["qkv"]["kernel"].shape[2]):
        kernel, bias = p["qkv"]["kernel"][:, :, head], p["qkv"]["bias"][:, head]
        q, k, v = (x @ kernel[:, part] + bias[part] for part in range(3))
        heads.append(softmax(q @ k.T / np.sqrt(q.shape[-1]), axis=-1) @ v)
    kernel = p["proj"]["kernel"].reshape(-1, x.shape[-1])
    return np.concatenate(heads, axis=-1) @ kernel + p["proj"]["bias"]


def transformer(x, params, prefix, depth):
    """A class token, positions, blocks and a norm over tokens `[N, D]`; the class token `[D]`."""
    x = np.concatenate([params[f"{prefix}cls_token"][0], x]) + params[f"{prefix}pos_embed"][0]
    for index in range(depth):
        p = params[f"{prefix}block{index}"]
        x = x + attention(norm(x, p["norm1"]), p["attn"])
        hidden = dense(norm(x, p["norm2"]), p["mlp"]["fc1"])
        x = x + dense(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, p["mlp"]["fc2"])
    return norm(x, params[f"{prefix}norm"])[0]


def test_vivit():
    """One Transformer on the tubelets of each pair of frames, and one on its class tokens."""
    model = create_model("vivit_ti4x2", 3, time_depth=3, **SIZES)
    variables = formula(jax.eval_shape(model.init, KEY, X))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    kernel = params["patch_embed"]["kernel"].reshape(-1, 12)
    expected = []
    for clip in X.astype(np.float64):
        frames = []
        for time in range(0, 6, 2):
            patches = [clip[time : time + 2, :4, left : left + 4].ravel() for left in (0, 4)]
            tokens = np.stack(patches) @ kernel + params["patch_embed"]["bias"]
            frames.append(transformer(tokens, params, "", 2))
        expected.append(dense(transformer(np.stack(frames), params, "time_", 3), params["head"]))
    np.testing.assert_allclose(jax.jit(model.apply)(variables, X), expected, rtol=1e-4, atol=1e-5)


def test_positions_in_time_are_resampled():
    """Clips of twice the frames, and of another size, take the parameters as they are."""
    for name in ("timesformer_ti4", "vivit_ti4x2"):
        model = create_model(name, 3, **SIZES)
        state = jax.eval_shape(model.init, KEY, jnp.zeros((1, 4, 8, 8, 3)))
        longer = jax.eval_shape(model.apply, state, jnp.zeros((2, 8, 12, 16, 3)))
        assert longer.shape == (2, 3)
    ramp = jnp.arange(4.0)[None, :, None] * jnp.ones((1, 4, 12))
    longer = np.asarray(resample_positions(ramp, (8,), 0))[0, :, 0]
    np.testing.assert_allclose(np.diff(longer[2:6]), 0.5, atol=0.05)


def test_attention_over_time_starts_as_no_operation():
    """So frames in another order have the same logits, until `time_proj` is trained."""
    model = create_model("timesformer_ti4", 3, **SIZES)
    variables = formula(jax.eval_shape(model.init, KEY, X))
    params = variables["params"]
    zeros = {"time_embed": np.zeros_like(params["time_embed"])}
    apply = jax.jit(lambda p, x: model.apply({"params": p}, x))
    start = {**params, **zeros}
    for index in range(2):
        block = dict(start[f"block{index}"])
        block["time_proj"] = jax.tree.map(np.zeros_like, block["time_proj"])
        start[f"block{index}"] = block
    np.testing.assert_allclose(apply(start, X[:, ::-1]), apply(start, X), rtol=1e-5, atol=1e-6)
    assert np.abs(apply(params, X[:, ::-1]) - apply(params, X)).max() > 1e-3
    initial = jax.jit(lambda: model.init(KEY, X[:1])["params"])()
    assert not any(np.any(initial[f"block{i}"]["time_proj"]["kernel"]) for i in range(2))
