"""Orders against loops, and the test split that they leave alone."""

import numpy as np
import pytest
import sqlalchemy as sa

from imgcls.studio.errors import Conflict, Refused
from imgcls.studio.learning import features, models, orders
from imgcls.studio.learning.training import cells_of
from imgcls.studio.store.schema import dataset, model
from tests.studio.learning.homes import make_home


def _centers(x, known, count):
    """k-centre by a loop over all distances."""
    chosen = []
    for _ in range(count):
        best, farthest = -1, -1.0
        for i in range(len(x)):
            if i in chosen:
                continue
            others = [*known, *(x[j] for j in chosen)]
            distance = min((float(((x[i] - o) ** 2).sum()) for o in others), default=np.inf)
            if not others:
                distance = -float(((x[i] - x.mean(0)) ** 2).sum()) + 1e9
            if distance > farthest:
                best, farthest = i, distance
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("known", [0, 1, 7])
def test_k_centers_are_those_of_a_loop(known):
    rng = np.random.default_rng(known)
    x, centers = rng.normal(size=(40, 5)), rng.normal(size=(known, 5))
    chosen, distance = orders.k_centers(x, centers, 12)
    assert chosen == _centers(x, centers, 12)
    rest = [i for i in range(40) if i not in chosen]
    for i in rest:
        every = [*centers, *x[chosen]]
        assert distance[i] == pytest.approx(min(((x[i] - c) ** 2).sum() for c in every))
    assert orders.k_centers(x[:0], centers, 3)[0] == []
    assert sorted(orders.k_centers(x, centers, 99)[0]) == list(range(40))


def test_uncertainty_is_the_entropy():
    p = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    expected = [-sum(v * np.log(v) for v in row if v) / np.log(3) for row in p]
    np.testing.assert_allclose(models.uncertainty(p), expected, atol=1e-9)
    several = np.array([[0.5, 0.5], [0.99, 0.01], [0.9, 0.9]])
    found = models.uncertainty(several[2:])
    assert found == pytest.approx(-(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1)))


def test_two_lists_become_one_without_losing_their_order():
    first, second = list(range(100)), list(range(100, 110))
    mixed = orders.spread(first, second)
    assert [i for i in mixed if i < 100] == first and [i for i in mixed if i >= 100] == second
    places = [mixed.index(i) for i in second]
    assert max(np.diff(places)) <= 12 and places[0] <= 6


@pytest.fixture
def made(tmp_path, shared_data):
    made = make_home(tmp_path, shared_data, each=20)
    yield made
    made.database.close()


def _order(made, sort, ids=None):
    with made.database.read() as connection:
        given = made.ids if ids is None else ids
        return orders.sort_ids(connection, made.home, made.dataset, made.user, given, sort)


def test_test_images_come_at_random_whatever_the_model_says(made):
    rng = np.random.default_rng(0)
    values = {"dataset_id": made.dataset, "checkpoint": "x", "created": 0.0}

    def add(connection: sa.Connection) -> int:
        key = connection.execute(model.insert().values(values)).inserted_primary_key
        assert key is not None
        connection.execute(dataset.update().values(model_id=key[0]))
        return key[0]

    number = made.database.write(add)
    p = rng.dirichlet(np.ones(3), len(made.ids))
    models._save_uncertainty(made.home, number, made.ids, p)
    tests = made.ids[5::6]
    order = _order(made, "uncertain")
    assert sorted(order) == made.ids
    entropy = dict(zip(made.ids, models.uncertainty(p), strict=True))
    others = [i for i in order if i not in tests]
    assert others == sorted(others, key=lambda i: -entropy[i])
    before = [i for i in order if i in tests]
    # Another model with the opposite doubts leaves the test images where they are.
    models._save_uncertainty(made.home, number, made.ids, 1 / 3 - (p - 1 / 3) / 3)
    models._save_uncertainty(made.home, number, made.ids, rng.dirichlet(np.ones(3), len(made.ids)))
    again = _order(made, "uncertain")
    assert [again.index(i) for i in before] == [order.index(i) for i in before]


def test_diverse_images_are_far_from_tagged_ones(made):
    with pytest.raises(Conflict, match="needs features") as error:
        _order(made, "diverse")
    assert error.value.details == {"needs": "features"}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(made.ids), 4)).astype(np.float32)
    file = features.file_of(made.home, made.dataset)
    np.savez(file, ids=np.array(made.ids), features=x)
    tagged = made.ids[:4]
    made.tag(tagged)
    order = [i for i in _order(made, "diverse") if i not in made.ids[5::6]]
    free = [n for n, i in enumerate(made.ids) if i not in tagged and i not in made.ids[5::6]]
    assert order[-4:] == sorted(order[-4:], key=order.index) and set(order[-4:]) == set(tagged)
    chosen = _centers(x[free], x[:4], 5)
    assert order[:5] == [made.ids[free[c]] for c in chosen]


def test_unknown_orders_are_refused(made):
    for sort in ("best", "similar:", "similar:x"):
        with pytest.raises(Refused, match="write uncertain, diverse, likely_wrong, similar:IMAGE"):
            _order(made, sort)


@pytest.mark.parametrize(
    "tagged, predicted, cells",
    [
        ([0], [0], [(0, 0)]),
        ([0], [1], [(0, 1)]),
        ([0, 1], [1, 0], [(0, 0), (1, 1)]),
        ([0, 1], [1], [(1, 1), (0, 3)]),
        ([0], [0, 2], [(0, 0), (3, 2)]),
        ([0], [1, 2], [(0, 1), (0, 2)]),
        ([], [], [(3, 3)]),
        ([], [2], [(3, 2)]),
        ([1], [], [(1, 3)]),
    ],
)
def test_the_cells_that_an_image_counts_in(tagged, predicted, cells):
    assert cells_of(tagged, predicted, 3) == cells
