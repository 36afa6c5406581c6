"""Two views, pairs and triplets: which images are drawn, and how often."""

import collections

import numpy as np
import pytest

from imgcls.core import defaults
from imgcls.core.errors import ConfigError
from imgcls.data.create import create_reader, create_train_loader, open_split
from imgcls.data.loading.views import Partners, create_partners
from tests.conftest import make_mesh


class Numbers:
    """Images with all pixels equal to the example's index, in classes of 1, 3 and 8."""

    class_names = ("one", "few", "many")
    multi_label = False
    length = 12
    decoded = 0

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        type(self).decoded += 1
        return {"image": np.full((6, 6, 1), index, np.uint8), "label": int(self.labels()[index])}

    def labels(self):
        return np.array([0, 2, 1, 2, 2, 1, 2, 1, 2, 2, 2, 2])

    def name(self, index):
        return f"number {index}"


class OneClass(Numbers):
    class_names = ("all",)

    def labels(self):
        return np.zeros(12, int)


def make_reader(source=None, **data):
    config = defaults.default_config()
    config.data.update(data | {"channels": 1})
    return create_reader(config, source or Numbers(), train=True)


def numbers(example, *keys):
    """The indices of images of `Numbers`."""
    for key in keys:
        assert (example[key] == example[key].flat[0]).all()
    return [int(example[key].flat[0]) for key in keys]


def test_two_views_are_decoded_once_and_differ():
    reader = make_reader(
        views="two", train_transform="pad_crop(4, padding=2, mode='constant')|solarize(0.5)"
    )
    _ = reader.spec
    before = Numbers.decoded
    examples = [reader.example(position) for position in range(24)]
    assert Numbers.decoded - before == 24
    assert all(e["image"].shape == e["image2"].shape == (4, 4, 1) for e in examples)
    differ = [not np.array_equal(e["image"], e["image2"]) for e in examples]
    assert np.mean(differ) > 0.5
    # The first view does not depend on the second.
    alone = make_reader(train_transform="pad_crop(4, padding=2, mode='constant')|solarize(0.5)")
    for position, example in enumerate(examples):
        np.testing.assert_array_equal(example["image"], alone.example(position)["image"])


def test_each_view_has_its_own_transforms():
    reader = make_reader(views="two", train_transform="", train_transform2="solarize(1.0, 0)")
    for position in range(12):
        first, second = numbers(reader.example(position), "image", "image2")
        assert second == 255 - first


@pytest.mark.parametrize("partners", ["label", "auto"])
def test_pairs_by_label(partners):
    reader, labels = make_reader(views="pairs", partners=partners), Numbers().labels()
    drawn = collections.defaultdict(set)
    same = []
    for position in range(12 * 160):
        example = reader.example(position)
        a, b = numbers(example, "image", "image2")
        assert a == example["index"] and labels[a] == example["label"]
        assert (labels[a] == labels[b]) == example["same"]
        drawn[a, int(example["same"])].add(b)
        same.append(example["same"])
    assert np.mean(same) == pytest.approx(0.5, abs=0.05)
    for index in range(12):
        others = {i for i in range(12) if labels[i] == labels[index]} - {index}
        assert drawn[index, 1] == (others or {index})
        assert drawn[index, 0] == {i for i in range(12) if labels[i] != labels[index]}


@pytest.mark.parametrize("source", [Numbers(), OneClass()])
def test_triplets_without_labels(source):
    """A view of the same image, and any other image."""
    partners = "instance" if len(source.class_names) > 1 else "auto"
    reader = make_reader(source, views="triplets", partners=partners)
    drawn = collections.defaultdict(set)
    for position in range(12 * 60):
        a, b, c = numbers(reader.example(position), "image", "image2", "image3")
        assert a == b != c
        drawn[a].add(c)
    assert all(drawn[index] == set(range(12)) - {index} for index in range(12))


def test_draws_are_uniform():
    labels = Numbers().labels()
    partners, rng = Partners(12, labels), np.random.default_rng(0)
    index = int(np.flatnonzero(labels == 2)[3])
    same = collections.Counter(partners.same(index, rng) for _ in range(7_000))
    other = collections.Counter(partners.other(index, rng) for _ in range(4_000))
    # Five standard deviations of a count of 1,000.
    assert len(same) == 7 and max(abs(n - 1_000) for n in same.values()) < 150
    assert len(other) == 4 and max(abs(n - 1_000) for n in other.values()) < 150


def test_example_depends_only_on_position():
    reader, other_reader = (
        make_reader(views="triplets", train_transform="flip|solarize(0.5)") for _ in range(2)
    )
    for position in (700, 3, 41):
        first, again = reader.example(position), other_reader.example(position)
        assert all(np.array_equal(first[key], again[key]) for key in first)


def test_batches_are_the_same_on_any_mesh():
    config = defaults.default_config()
    config.data.update(source="digits", channels=1, views="pairs", train_transform="flip")
    config.batch_size = 8
    reader = create_reader(config, open_split(config, "train"), train=True)
    batches = []
    for mesh in (make_mesh(), make_mesh(data=4)):
        loader = create_train_loader(config, reader, mesh, 3, 5)
        batches.append([{k: np.asarray(v) for k, v in batch.items()} for batch in loader])
        loader.close()
    assert batches[0][0].keys() == {"image", "image2", "same", "label", "index", "mask"}
    for one, four in zip(*batches, strict=True):
        assert all(np.array_equal(one[key], four[key]) for key in one)


def test_evaluation_has_one_view():
    config = defaults.default_config()
    config.data.update(channels=1, views="triplets")
    assert "image2" not in create_reader(config, Numbers(), train=False).example(0)


class MultiLabel(Numbers):
    multi_label = True


@pytest.mark.parametrize(
    "data, source, message",
    [
        (dict(views="pair"), Numbers(), "did you mean 'pairs'"),
        (dict(views="pairs", partners="class"), Numbers(), "config.data.partners='class'"),
        (dict(views="pairs", partners="label"), OneClass(), "has only one class; write 'instance'"),
        (dict(views="pairs", partners="label"), MultiLabel(), "multi-label; write 'instance'"),
        (dict(train_transform2="flip"), Numbers(), "set data.views='two'"),
    ],
)
def test_refused_settings(data, source, message):
    with pytest.raises(ConfigError, match=message):
        make_reader(source, **data)


def test_a_split_of_one_class_has_no_others():
    source = Numbers()
    source.labels = lambda: np.zeros(12, int)
    with pytest.raises(ConfigError, match="all images of the split are of one class"):
        create_partners("triplets", "label", source)
