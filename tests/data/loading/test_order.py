"""Training orders: uniform and balanced."""

import dataclasses
import pickle

import numpy as np
import pytest

from imgcls.core.errors import DataError
from imgcls.data.loading.batch_loader import BatchPlan
from imgcls.data.loading.loader import Loader
from imgcls.data.loading.order import count_classes, create_balanced, example_at
from imgcls.data.loading.reader import Reader
from tests.conftest import make_mesh

# 3 classes of 2, 5 and 11 examples, shuffled; class 2 has no examples.
SINGLE = np.random.default_rng(0).permutation(np.repeat([0, 1, 3], [2, 5, 11]))
# 4 classes, one without examples; examples with one, several or no labels.
MULTI = np.zeros((12, 4), np.uint8)
for row, classes in enumerate([(0,), (0, 1), (1,), (), (0, 1, 3), (3,), (), (0,), (1, 3)]):
    MULTI[row, list(classes)] = 1


def draws(labels, count, seed=3, first=0):
    order = create_balanced(labels, seed)
    return [order.index(position) for position in range(first, first + count)]


def members(labels):
    """Examples of each class, by a loop."""
    if labels.ndim == 1:
        return {
            c: [i for i, label in enumerate(labels) if label == c] for c in set(labels.tolist())
        }
    by_class = {c: [i for i, row in enumerate(labels) if row[c]] for c in range(labels.shape[1])}
    by_class["none"] = [i for i, row in enumerate(labels) if not any(row)]
    return {c: examples for c, examples in by_class.items() if examples}


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_every_epoch_is_another_permutation(length):
    epochs = [[example_at(5, e * length + i, length) for i in range(length)] for e in range(4)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(length))
    if length == 100:
        assert len({tuple(e) for e in epochs}) == 4
        other = [example_at(6, i, length) for i in range(length)]
        assert tuple(other) not in {tuple(e) for e in epochs}


def test_seeds_do_not_share_epochs():
    epochs = {
        s: [[example_at(s, e * 50 + i, 50) for i in range(50)] for e in (0, 1)] for s in (0, 1)
    }
    assert epochs[0][1] != epochs[1][0]


def test_every_block_has_each_class_once():
    blocks = SINGLE[draws(SINGLE, 3 * 400)].reshape(400, 3)
    assert (np.sort(blocks, axis=1) == [0, 1, 3]).all()
    # All orders are equally likely: 400 / 6 times each, with a standard deviation of 7.5.
    _, counts = np.unique(blocks, axis=0, return_counts=True)
    assert len(counts) == 6 and counts.min() > 35 and counts.max() < 100


def test_a_class_is_visited_completely_before_it_repeats():
    drawn = np.array(draws(SINGLE, 3 * 110))
    for label, size in ((0, 2), (1, 5), (3, 11)):
        rounds = drawn[SINGLE[drawn] == label].reshape(-1, size)
        assert (np.sort(rounds, axis=1) == np.flatnonzero(SINGLE == label)).all()
        # The rounds have different orders.
        assert len(np.unique(rounds, axis=0)) > 1


def test_classes_of_one_size_have_different_orders():
    drawn = np.array(draws(np.repeat([0, 1], 20), 40))
    assert (drawn[drawn < 20] != drawn[drawn >= 20] - 20).any()


def test_a_large_class_beside_a_small_one():
    labels = np.repeat([0, 1], [1000, 3])
    drawn = np.array(draws(labels, 2 * 2000))
    rounds = drawn[labels[drawn] == 0].reshape(2, 1000)
    assert (np.sort(rounds, axis=1) == np.arange(1000)).all()
    assert (rounds[0] != rounds[1]).any() and (np.diff(rounds[0]) != 1).any()
    assert np.sum(labels[drawn] == 1) == 2000


def test_multi_label_examples_are_drawn_for_each_class():
    """The number of blocks is a multiple of every class's size, so the counts are exact."""
    by_class = members(MULTI)
    assert list(by_class) == [0, 1, 3, "none"]
    assert [len(m) for m in by_class.values()] == [4, 4, 3, 5]
    rounds = 4 * 3 * 5
    drawn = draws(MULTI, len(by_class) * rounds)
    expected = [
        sum(rounds // len(m) for m in by_class.values() if i in m) for i in range(len(MULTI))
    ]
    np.testing.assert_array_equal(np.bincount(drawn, minlength=len(MULTI)), expected)
    for block in np.reshape(drawn, (rounds, len(by_class))).tolist():
        assert sum(i in by_class["none"] for i in block) == 1
        assert all(any(i in examples for i in block) for examples in by_class.values())


def test_no_extra_class_if_all_examples_are_labeled():
    labels = np.eye(3, dtype=np.uint8)[[0, 0, 1, 2]]
    assert sorted(draws(labels, 3)[i] > 1 for i in range(3)) == [False, True, True]


def test_order_depends_only_on_seed_and_position():
    full = draws(SINGLE, 60)
    assert draws(SINGLE, 20, first=40) == full[40:]
    assert draws(SINGLE, 60, seed=4) != full
    order = pickle.loads(pickle.dumps(create_balanced(SINGLE, 3)))
    assert [order.index(p) for p in range(60)] == full


def test_large_positions_and_one_class():
    position = 10**12
    assert SINGLE[draws(SINGLE, 3, first=3 * position)].tolist() != [0, 0, 0]
    ones = np.zeros(5, int)
    assert sorted(draws(ones, 5)) == list(range(5))


def test_unreadable_examples_are_replaced_within_the_class():
    order = create_balanced(SINGLE, 3)
    for position in range(30):
        label = SINGLE[order.index(position)]
        size = np.sum(SINGLE == label)
        tried = [order.index(position, attempt) for attempt in range(len(SINGLE))]
        assert (SINGLE[tried[:size]] == label).all()
        assert sorted(tried) == list(range(len(SINGLE)))


def test_count_classes():
    assert count_classes(SINGLE, 5) == (2, 5, 0, 11, 0)
    assert count_classes(MULTI, 4) == (4, 4, 0, 3)
    assert all(type(n) is int for n in count_classes(MULTI, 4))


# ---- Through the loader.


@dataclasses.dataclass
class ConstantImages:
    """Images with all pixels equal to the example's index, labeled by `SINGLE`; some unreadable."""

    unreadable: tuple[int, ...] = ()

    class_names = tuple("abcd")
    multi_label = False

    def __len__(self):
        return len(SINGLE)

    def __getitem__(self, index):
        if index in self.unreadable:
            raise DataError(f"{index}: truncated")
        return {"image": np.full((2, 2, 1), index, np.uint8), "label": int(SINGLE[index])}

    def name(self, index):
        return str(index)


def read(first=0, steps=6, unreadable=(), devices=1, **options):
    reader = Reader(
        ConstantImages(unreadable), [], 3, True, "skip", balanced=create_balanced(SINGLE, 3)
    )
    loader = Loader(BatchPlan(reader, make_mesh(data=devices), 8, first, first + steps), **options)
    batches = [np.asarray(batch["index"]) for batch in loader]
    loader.close()
    return np.concatenate(batches), loader.skipped


def test_loader_follows_the_order_from_any_step():
    full, skipped = read()
    np.testing.assert_array_equal(full, draws(SINGLE, 48))
    later, _ = read(first=4, steps=2, devices=4, threads=3)
    np.testing.assert_array_equal(later, full[32:])
    assert skipped == 0


def test_loader_replaces_unreadable_records_within_the_class():
    unreadable_index = int(np.flatnonzero(SINGLE == 1)[2])
    full, _ = read()
    replaced, skipped = read(unreadable=(unreadable_index,))
    assert skipped == np.sum(full == unreadable_index) > 0
    changed = full != replaced
    np.testing.assert_array_equal(changed, full == unreadable_index)
    assert (SINGLE[replaced[changed]] == 1).all()
    # A class without readable examples is replaced by the next one.
    full_class = tuple(np.flatnonzero(SINGLE == 0).tolist())
    replaced, _ = read(unreadable=full_class)
    assert set(SINGLE[replaced]) == {1, 3}


@pytest.mark.slow
def test_workers_give_the_same_batches():
    np.testing.assert_array_equal(read(workers=2)[0], read()[0])
