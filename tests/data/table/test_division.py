"""Division into splits: by class, by group, and by split folders."""

import collections
import random

import numpy as np

from imgcls.data.sources.open import create_source, open_dataset
from imgcls.data.sources.splits import stratified_slice
from tests.data.table.reading import names


def test_stratified_by_the_rarest_class(manifest):
    """A class that always occurs together with a common one is split 80/10/10."""
    rows = [(f"{i:03d}.jpg", "common|rare" if i % 10 == 0 else "common") for i in range(200)]
    data = open_dataset(manifest(rows))
    counts = [data.open(split).labels().sum(axis=0).tolist() for split in data.splits]
    assert counts == [[160, 16], [20, 2], [20, 2]]


def test_groups_are_not_divided(manifest):
    generator = random.Random(0)
    rows, header = [], ("path", "label", "group")
    for group in range(120):
        label = "ab"[group % 4 == 0]
        rows += [(f"{group}_{i}.jpg", label, f"p{group}") for i in range(generator.randint(1, 5))]
    rows += [(f"alone{i}.jpg", "a", "") for i in range(40)]
    data = open_dataset(manifest(rows, header))
    parts = {split: data.open(split) for split in data.splits}
    homes = collections.defaultdict(set)
    for split, source in parts.items():
        for i in range(len(source)):
            homes[source.group(i)].add(split)
    assert homes.pop(None) == {"train", "val", "test"}
    assert len(homes) == 120 and all(len(splits) == 1 for splits in homes.values())
    share = np.mean([label == "b" for _, label, _ in rows])
    for split, part in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        # Within one group of the expected size, and within two for a class.
        assert abs(len(parts[split]) - part * len(rows)) <= 5
        assert abs(np.sum(parts[split].labels()) - part * share * len(rows)) <= 10
    assert sum(map(len, parts.values())) == len(rows)
    first, rest = data.open("train[:50%]"), data.open("train[50%:]")
    assert sorted(names(first) + names(rest)) == sorted(names(parts["train"]))
    groups = [{s.group(i) for i in range(len(s))} - {None} for s in (first, rest)]
    assert not groups[0] & groups[1] and min(map(len, groups)) > 30


def test_slices_of_three_groups():
    """Groups of 2, 3 and 1 examples of one class: the first example of a group decides."""
    labels, groups = np.zeros(6, int), np.array([4, 9, 9, 4, 1, 9])
    cuts = {}
    for stop in range(7):
        chosen = stratified_slice(labels, "", str(stop), 0, groups)
        assert set(groups[chosen]) & set(np.delete(groups, chosen)) == set()
        rest = stratified_slice(labels, str(stop), "", 0, groups)
        assert sorted([*chosen, *rest]) == list(range(6))
        cuts[stop] = len(chosen)
    order = [cuts[stop] for stop in range(7)]
    assert order == sorted(order) and order[0] == 0 and order[6] == 6
    sizes = np.diff(sorted(set(order)))
    assert sorted(sizes) == [1, 2, 3] and order[1] == sizes[0]


def test_a_group_counts_for_its_most_frequent_class():
    """Ten groups with two examples of class 1 and one of class 0, beside 30 examples of class 0."""
    labels = np.array([1, 0, 1] * 10 + [0] * 30)
    groups = np.concatenate([np.repeat(np.arange(10), 3), np.arange(10, 40)])
    for seed in range(30):
        chosen = stratified_slice(labels, "", "50%", seed, groups)
        assert abs(len(set(groups[chosen]) & set(range(10))) - 5) <= 1


def test_split_equals_a_stratified_slice_of_the_labels(manifest):
    rows = [(f"{i:03d}.jpg", "cbad"[i * i % 7 % 4]) for i in range(90)]
    labels = np.array(["abcd".index(label) for _, label in rows])
    for split, bounds in (("train", ("", "80%")), ("val", ("80%", "90%")), ("test", ("90%", ""))):
        chosen = stratified_slice(labels, *bounds, 4)
        source = create_source(manifest(rows), split, seed=4)
        assert names(source) == [rows[i][0] for i in chosen]
        np.testing.assert_array_equal(source.labels(), labels[chosen])


def test_split_folders_in_a_manifest(manifest):
    """Without a split column, images under `train/` and `valid/` belong to these splits."""
    rows = [("d/train/1.jpg", "x"), ("d/valid/2.jpg", "x"), ("d/train/sub/3.jpg", "x")]
    data = open_dataset(manifest(rows))
    assert data.splits == ("train", "val")
    assert names(data.open("train")) == ["1.jpg", "3.jpg"]
    # One split folder for all images, as in some downloads, is not a split.
    assert open_dataset(manifest(rows[::2])).splits == ("train", "val", "test")
    assert open_dataset(manifest([*rows, ("d/zoo/4.jpg", "x")])).splits == (
        "train",
        "val",
        "test",
    )
