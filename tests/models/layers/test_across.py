"""Recurrent pooling of a row of images against a loop in NumPy, and against torch's packed rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, softmax

from imgcls.models.layers.across import CELLS, RecurrentAcross, mean_across
from tests.models.test_resnet import formula

KEY = jax.random.key(0)
X = np.sin(np.arange(3 * 5 * 4) ** 1.2).reshape(3, 5, 4).astype(np.float32)
LENGTH = np.array([5, 3, 1], np.int32)


def make(cell, pool="mean", bidirectional=True, depth=2):
    model = RecurrentAcross(3, depth, cell, bidirectional, pool)
    shapes = jax.eval_shape(lambda x: model.init(KEY, x, train=False), X)
    return model, formula(shapes)


def run_cell(cell: str, params: dict, x: np.ndarray) -> np.ndarray:
    """Outputs `[T, width]` of one cell for one row x `[T, F]`; float64."""

    def dense(name, x):
        p = params[name]
        return x @ np.asarray(p["kernel"], float) + np.asarray(p.get("bias", 0.0), float)

    hidden, memory, outputs = np.zeros(3), np.zeros(3), []
    for frame in x:
        if cell == "lstm":
            i, f, g, o = (dense(f"i{k}", frame) + dense(f"h{k}", hidden) for k in "ifgo")
            memory = expit(f) * memory + expit(i) * np.tanh(g)
            hidden = expit(o) * np.tanh(memory)
        elif cell == "gru":
            r, z = (expit(dense(f"i{k}", frame) + dense(f"h{k}", hidden)) for k in "rz")
            new = np.tanh(dense("in", frame) + r * dense("hn", hidden))
            hidden = (1 - z) * new + z * hidden
        else:
            hidden = np.tanh(dense("i", frame) + dense("h", hidden))
        outputs.append(hidden)
    return np.stack(outputs)


def reference(cell: str, params: dict, x: np.ndarray, pool: str, bidirectional: bool, depth: int):
    """The pooled outputs of one row without padding; float64."""
    x = np.asarray(x, float)
    last = []
    for index in range(depth):
        outputs = [run_cell(cell, params[f"forward{index}"], x)]
        last = [outputs[0][-1]]
        if bidirectional:
            reverse = run_cell(cell, params[f"backward{index}"], x[::-1])
            last.append(reverse[-1])
            outputs.append(reverse[::-1])
        x = np.concatenate(outputs, axis=1)
    if pool == "last":
        return np.concatenate(last)
    if pool == "mean":
        return x.mean(axis=0)
    hidden = params["pool"]["hidden"]
    scores = np.tanh(x @ hidden["kernel"] + hidden["bias"]) @ params["pool"]["score"]["kernel"]
    return (x * softmax(scores, axis=0)).sum(axis=0)


@pytest.mark.parametrize(
    ("cell", "pool", "bidirectional", "depth"),
    [
        ("lstm", "last", True, 2),
        ("lstm", "attention", False, 1),
        ("gru", "last", False, 2),
        ("gru", "mean", True, 1),
        ("rnn", "attention", True, 2),
        ("rnn", "mean", False, 1),
    ],
)
def test_rows_of_any_length(cell, pool, bidirectional, depth):
    model, variables = make(cell, pool, bidirectional, depth)
    found = jax.jit(lambda x: model.apply(variables, x, train=False, length=LENGTH))(X)
    for row, length in enumerate(LENGTH):
        args = (cell, variables["params"], X[row, :length], pool, bidirectional, depth)
        np.testing.assert_allclose(found[row], reference(*args), rtol=1e-5, atol=1e-6)


def test_lengths_beyond_the_row_are_clipped():
    """And a row without images counts its first."""
    lengths = [jnp.array(values, jnp.int32) for values in ([9, 3, 0], [5, 3, 1])]
    model, variables = make("gru", "last")
    apply = jax.jit(lambda length: model.apply(variables, X, train=False, length=length))
    for outputs in ([apply(n) for n in lengths], [mean_across(jnp.asarray(X), n) for n in lengths]):
        np.testing.assert_allclose(*outputs, rtol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("cell", CELLS)
def test_packed_rows_of_torch(cell):
    torch = pytest.importorskip("torch", reason="needs requirements-parity.txt")
    model, variables = make(cell, "last")
    gates = {"lstm": "ifgo", "gru": "rzn", "rnn": [""]}[cell]
    theirs = getattr(torch.nn, cell.upper())(4, 3, 2, batch_first=True, bidirectional=True)

    def part(params, name):
        kernel = np.asarray(params[name]["kernel"]).T
        return kernel, np.asarray(params[name].get("bias", np.zeros(len(kernel))))

    state = {}
    for index in range(2):
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            params = variables["params"][f"{direction}{index}"]
            for side in "ih":
                parts = [part(params, f"{side}{gate}") for gate in gates]
                for name, arrays in zip(("weight", "bias"), zip(*parts, strict=True), strict=True):
                    array = torch.from_numpy(np.concatenate(arrays))
                    state[f"{name}_{side}h_l{index}{suffix}"] = array
    theirs.load_state_dict(state)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(X), LENGTH, batch_first=True)
    with torch.no_grad():
        last = theirs(packed)[1]
    last = last[0] if cell == "lstm" else last
    expected = np.concatenate([last[-2], last[-1]], axis=-1)
    found = model.apply(variables, X, train=False, length=LENGTH)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-6)
