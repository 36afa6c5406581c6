"""Embedding losses against float64 loops written from the papers' equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from imgcls import losses
from imgcls.core.errors import ConfigError
from tests.conftest import make_mesh
from tests.losses.cases import check, normal, squared_distance

# Classes of several sizes, unordered; class 7 has a single member.
LABELS = np.array([2, 0, 2, 7, 1, 0, 2, 1, 0, 2, 1, 0], np.int32)

MINED = jax.jit(losses.mined_triplet_loss, static_argnames=("mining", "squared"))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a, b):
    return dot(a, b) / np.sqrt(dot(a, a) * dot(b, b))


def reference_contrastive(a, b, same, margin=1.0):
    values = []
    for x, y, similar in zip(a, b, same, strict=True):
        distance = np.sqrt(squared_distance(x, y))
        values.append(distance**2 / 2 if similar else max(0, margin - distance) ** 2 / 2)
    return values


def reference_triplet(anchor, positive, negative, margin=0.2, squared=True):
    power = 1 if squared else 0.5
    return [
        max(0, squared_distance(a, p) ** power - squared_distance(a, n) ** power + margin)
        for a, p, n in zip(anchor, positive, negative, strict=True)
    ]


def reference_mined(z, labels, margin=0.2, mining="semi-hard", squared=True, fallbacks=None):
    """Appends to `fallbacks`, for each positive, whether no negative is semi-hard."""
    values, valid = [], []
    for i in range(len(z)):
        d = [squared_distance(z[i], other) ** (1 if squared else 0.5) for other in z]
        positives = [d[j] for j in range(len(z)) if j != i and labels[j] == labels[i]]
        negatives = [d[j] for j in range(len(z)) if labels[j] != labels[i]]
        valid.append(1.0 if positives and negatives else 0.0)
        triplets = []
        if valid[-1] and mining == "all":
            triplets = [(p, n) for p in positives for n in negatives]
        elif valid[-1] and mining == "hard":
            triplets = [(max(positives), min(negatives))]
        elif valid[-1]:
            for p in positives:
                farther = [n for n in negatives if n > p]
                triplets.append((p, min(farther) if farther else max(negatives)))
                if fallbacks is not None:
                    fallbacks.append(not farther)
        values.append(np.mean([max(0, p - n + margin) for p, n in triplets]) if triplets else 0.0)
    return values, valid


def reference_info_nce(query, positive, negatives, temperature=0.07, similarity="cosine"):
    measure = {"cosine": cosine, "dot": dot}[similarity]
    values = []
    for i, q in enumerate(query):
        others = negatives if negatives.ndim == 2 else negatives[i]
        logits = [measure(q, k) / temperature for k in (positive[i], *others)]
        values.append(-np.log(np.exp(logits[0]) / sum(np.exp(x) for x in logits)))
    return values


def reference_nt_xent(z1, z2, temperature=0.5):
    views = [view for pair in zip(z1, z2, strict=True) for view in pair]

    def loss(i, j):
        logits = [cosine(views[i], view) / temperature for view in views]
        denominator = sum(np.exp(logits[k]) for k in range(len(views)) if k != i)
        return -np.log(np.exp(logits[j]) / denominator)

    return [(loss(2 * k, 2 * k + 1) + loss(2 * k + 1, 2 * k)) / 2 for k in range(len(z1))]


def reference_supcon(z, labels, temperature=0.1):
    values, valid = [], []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        denominator = sum(np.exp(cosine(z[i], z[a]) / temperature) for a in others)
        log_p = [np.log(np.exp(cosine(z[i], z[p]) / temperature) / denominator) for p in positives]
        values.append(-sum(log_p) / len(positives) if positives else 0.0)
        valid.append(1.0 if positives else 0.0)
    return values, valid


def reference_byol(prediction, target):
    return [2 - 2 * cosine(p, t) for p, t in zip(prediction, target, strict=True)]


def test_contrastive_margin():
    a, same = normal(12, 3), LABELS % 2
    b = a + normal(12, 3, seed=1) * np.linspace(0.1, 1.5, 12)[:, None]
    check(losses.contrastive_margin_loss, reference_contrastive, a, b, same)
    check(losses.contrastive_margin_loss, reference_contrastive, a, b, same, margin=2.5)
    values = np.array(reference_contrastive(a, b, 0 * same))
    assert 0 < np.sum(values == 0) < 12, "pairs on both sides of the margin"


@pytest.mark.parametrize("squared", [True, False])
def test_triplet(squared):
    z = [normal(12, 3, seed=seed) for seed in range(3)]
    options = {} if squared else {"margin": 0.7, "squared": False}
    check(losses.triplet_loss, reference_triplet, *z, **options)
    values = np.array(reference_triplet(*z, **options))
    assert 0 < np.sum(values == 0) < 12, "triplets on both sides of the margin"


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("mining", losses.MINING)
def test_mined_triplet(mining, squared):
    # In the wide class some members are farther from each other than from all other classes.
    z = normal(12, 4) * np.where(LABELS == 2, 3, 1)[:, None]
    options = {"mining": mining, "squared": squared}
    check(losses.mined_triplet_loss, reference_mined, z, LABELS, margin=5.0, **options)
    # Close points far from 0: |a|^2 + |b|^2 - 2ab would have no correct digit in float32.
    close, margin = 10 + 1e-3 * z, 1e-5 if squared else 3e-3
    check(losses.mined_triplet_loss, reference_mined, close, LABELS, margin=margin, **options)
    if mining == "semi-hard":
        fallbacks = []
        reference_mined(z, LABELS, fallbacks=fallbacks)
        assert 0.1 < np.mean(fallbacks) < 0.9, "both kinds of negatives occur"


def test_mined_triplet_by_hand():
    z, labels = jnp.array([[0.0], [1.0], [3.0], [2.0], [10.0]]), jnp.array([0, 0, 0, 1, 1])
    # Example 1 has a positive and a negative at the same distance, which is not semi-hard.
    # Example 3 has no negative farther away than its positive.
    values, valid = MINED(z, labels, 100.0)
    np.testing.assert_array_equal(values, [53.0, 21.5, 57.5, 160.0, 83.0])
    np.testing.assert_array_equal(valid, np.ones(5))
    values, _ = MINED(z, labels, 0.5, "hard")
    np.testing.assert_array_equal(values, [5.5, 3.5, 8.5, 63.5, 15.5])
    values, _ = MINED(z, labels, 0.5, "all")
    np.testing.assert_allclose(values, [1.375, 1.0, 3.0, 62.5, 46.5 / 9], rtol=1e-6)


@pytest.mark.parametrize("mining", losses.MINING)
def test_batch_without_triplets_has_no_loss(mining):
    for labels in (np.zeros(5, int), np.arange(5)):
        values, valid = MINED(jnp.ones((5, 1)), labels, 0.2, mining)
        np.testing.assert_array_equal(values, np.zeros(5))
        np.testing.assert_array_equal(valid, np.zeros(5))


def test_batch_hard_of_4096_does_not_store_differences():
    def loss(z, labels):
        return losses.mined_triplet_loss(z, labels, mining="hard")[0].sum()

    z = jax.ShapeDtypeStruct((4096, 256), jnp.float32)
    labels = jax.ShapeDtypeStruct((4096,), jnp.int32)
    memory = jax.jit(jax.grad(loss)).lower(z, labels).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 4 * 4096**2


@pytest.mark.parametrize("similarity", losses.SIMILARITIES)
@pytest.mark.parametrize("negatives", [(7, 4), (5, 7, 4)])
def test_info_nce(negatives, similarity):
    arrays = normal(5, 4), normal(5, 4, seed=1), normal(*negatives, seed=2)
    options = {} if similarity == "cosine" else {"similarity": "dot", "temperature": 0.5}
    check(losses.info_nce, reference_info_nce, *arrays, **options)


def test_info_nce_is_accurate_near_zero():
    query = jnp.eye(4)
    values = jax.jit(losses.info_nce)(query, query, -query[:1], temperature=0.1)
    # Only the first query has a negative that is not orthogonal to it.
    np.testing.assert_allclose(values, np.log1p(np.exp([-20.0, -10, -10, -10])), rtol=1e-5)


def test_nt_xent():
    check(losses.nt_xent, reference_nt_xent, normal(6, 4), normal(6, 4, seed=1))


def test_supcon():
    z = normal(12, 4)
    check(losses.supcon, reference_supcon, z, LABELS)
    np.testing.assert_array_equal(reference_supcon(z, LABELS)[1], LABELS != 7)


def test_byol():
    prediction, target = normal(6, 4), normal(6, 4, seed=1)
    check(losses.byol_loss, reference_byol, prediction, target)
    # Nearly parallel: at an angle of 1e-3 the loss is about its square.
    a, b = jnp.array([[1.0, 0.0]]), 5 * jnp.array([[np.cos(1e-3), np.sin(1e-3)]])
    np.testing.assert_allclose(jax.jit(losses.byol_loss)(a, b), 4 * np.sin(5e-4) ** 2, rtol=1e-4)


def test_l2_normalize():
    z = normal(5, 4)
    z[2] = 0
    unit = jax.jit(losses.l2_normalize)(jnp.asarray(z, jnp.bfloat16))
    assert unit.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), [1, 1, 0, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(unit[0], z[0] / np.sqrt(dot(z[0], z[0])), rtol=0.02)
    jacobian = jax.jit(jax.jacobian(losses.l2_normalize))(jnp.zeros(3))
    np.testing.assert_array_equal(jacobian, np.eye(3))


def test_unknown_options_are_reported():
    z = jnp.ones((2, 2))
    with pytest.raises(ConfigError, match="^mining='easy': unknown; .*all, hard, semi-hard$"):
        losses.mined_triplet_loss(z, jnp.arange(2), mining="easy")
    with pytest.raises(ConfigError, match="^similarity='l2': unknown; use cosine or dot$"):
        losses.info_nce(z, z, z, similarity="l2")


def cases():
    """Each loss as a function of one `[B, D]` array, by name."""

    def pairs(same):
        return lambda z: losses.contrastive_margin_loss(z, z[::-1], jnp.full(len(z), same), 4.0)

    def triplet(squared):
        return lambda z: losses.triplet_loss(z, z[::-1], jnp.roll(z, 1, 0), 0.7, squared)

    def mined(mining, squared):
        def loss(z):
            return losses.mined_triplet_loss(z, LABELS[: len(z)], 0.7, mining, squared)[0]

        return loss

    by_name = {f"contrastive {same}": pairs(same) for same in (0, 1)}
    for squared in (True, False):
        by_name[f"triplet {squared}"] = triplet(squared)
        by_name |= {f"{mining} {squared}": mined(mining, squared) for mining in losses.MINING}
    return by_name | {
        "info_nce": lambda z: losses.info_nce(z, z[::-1], jnp.roll(z, 1, 0), 0.5),
        "info_nce dot": lambda z: losses.info_nce(z, z[::-1], jnp.roll(z, 1, 0), 2.0, "dot"),
        "nt_xent": lambda z: losses.nt_xent(z, z[::-1]),
        "supcon": lambda z: losses.supcon(z, LABELS[: len(z)])[0],
        "byol": lambda z: losses.byol_loss(z, z[::-1]),
        "mse": lambda z: losses.mse(z, z[::-1]),
        "patches": lambda z: losses.masked_patch_mse(z[None], z[None, ::-1], jnp.ones((1, len(z)))),
    }


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_gradients_match_finite_differences(name):
    weights = normal(6, seed=4)
    with jax.enable_x64(True):
        # One compiled function for all entries: compilation dominates the time of these tests.
        both = jax.jit(jax.value_and_grad(lambda z: jnp.sum(weights * CASES[name](z))))
        z, gradient = normal(6, 3, seed=3), np.zeros((6, 3))
        for entry in np.ndindex(z.shape):
            step = np.zeros_like(z)
            step[entry] = 1e-5
            gradient[entry] = (both(z + step)[0] - both(z - step)[0]) / 2e-5
        np.testing.assert_allclose(both(z)[1], gradient, rtol=1e-6, atol=1e-7)
    assert np.any(gradient != 0)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_at_degenerate_points(name):
    value_and_grad = jax.jit(jax.value_and_grad(lambda z: CASES[name](z).sum()))
    for z in (jnp.zeros((6, 3)), jnp.ones((6, 3)), 1e-30 * jnp.ones((6, 3))):
        value, gradient = value_and_grad(z)
        assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
    bad, _ = value_and_grad(jnp.ones((6, 3)).at[1].set(jnp.nan))
    assert jnp.isnan(bad), "NaN must not hide"


@pytest.mark.parametrize("name", ["nt_xent", "supcon", "semi-hard True"])
def test_batch_of_one_has_no_loss(name):
    value, gradient = jax.jit(jax.value_and_grad(lambda z: CASES[name](z)[0]))(jnp.ones((1, 3)))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros((1, 3)))


@pytest.mark.parametrize("name", ["nt_xent", "supcon", "all", "hard", "semi-hard"])
def test_loss_of_sharded_batch_is_global(name):
    labels = jnp.asarray(np.random.default_rng(0).integers(0, 3, 16))

    def loss(a, b, labels):
        if name == "nt_xent":
            return losses.nt_xent(a, b).mean()
        if name == "supcon":
            return losses.masked_mean(*losses.supcon(a, labels))
        return losses.masked_mean(*losses.mined_triplet_loss(a, labels, mining=name))

    batch = jnp.asarray(normal(2, 16, 4), jnp.float32)
    arrays = (*batch, labels)
    alone, gradient = jax.jit(jax.value_and_grad(loss))(*arrays)
    sharding = NamedSharding(make_mesh(data=2, fsdp=2), PartitionSpec(("data", "fsdp")))
    sharded = jax.jit(jax.value_and_grad(loss))(*jax.device_put(arrays, sharding))
    np.testing.assert_allclose(sharded[0], alone, rtol=1e-6)
    np.testing.assert_allclose(sharded[1], gradient, rtol=1e-5, atol=1e-7)

    parts = [jax.jit(loss)(*(x[i : i + 4] for x in arrays)) for i in range(0, 16, 4)]
    assert abs(np.mean(parts) - alone) > 0.01 * alone


def test_info_nce_without_negatives_uses_the_batch():
    """The negatives of a query are the positives of the other queries."""
    query, positive = normal(5, 8, seed=1), normal(5, 8, seed=2)
    actual = losses.info_nce(query, positive, temperature=0.3)
    others = np.stack([np.delete(positive, i, axis=0) for i in range(5)])
    expected = losses.info_nce(query, positive, others, temperature=0.3)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
