"""Majorities, ties and reviews; kappa against scikit-learn."""

import random

import pytest
from sklearn.metrics import cohen_kappa_score

from imgcls.studio.store import agreement, answers
from imgcls.studio.store.agreement import kappa
from imgcls.studio.store.consensus import Vote, settle
from tests.studio.homes import add_dataset, add_images, add_user, new_id


def vote(user, *classes, flag=None):
    return Vote(user, frozenset(classes), flag)


@pytest.mark.parametrize(
    "kind,taggers,votes,labels,status",
    [
        ("single", 1, [], [], "new"),
        ("single", 1, [vote(1, 5)], [5], "done"),
        ("single", 1, [vote(1, flag="none")], [], "done"),
        ("single", 1, [vote(1, flag="skip")], [], "in_progress"),
        ("single", 1, [vote(1, 5, flag="unsure")], [], "review"),
        ("single", 1, [vote(1, 5, flag="unsure"), vote(2, 6)], [6], "done"),
        ("single", 2, [vote(1, 5)], [], "in_progress"),
        ("single", 2, [vote(1, 5), vote(2, 5)], [5], "done"),
        ("single", 2, [vote(1, 5), vote(2, 6)], [], "review"),
        ("single", 2, [vote(1, 5), vote(2, flag="none")], [], "review"),
        ("single", 3, [vote(1, 5), vote(2, 6), vote(3, 5)], [5], "done"),
        ("single", 3, [vote(1, 5), vote(2, 6), vote(3, flag="none")], [], "review"),
        ("multi", 2, [vote(1, 5, 6), vote(2, 5)], [], "review"),
        ("multi", 3, [vote(1, 5, 6), vote(2, 5), vote(3, 5, 6)], [5, 6], "done"),
        ("multi", 3, [vote(1, 5), vote(2, 6), vote(3, 7)], [], "review"),
        ("multi", 3, [vote(1, 5), vote(2, flag="none"), vote(3, flag="none")], [], "done"),
    ],
)
def test_labels_and_status(kind, taggers, votes, labels, status):
    for order in (votes, votes[::-1]):
        settled = settle(order, kind=kind, taggers=taggers)
        assert (sorted(settled.labels), settled.status) == (labels, status)


def test_the_reviewer_decides():
    votes = [vote(1, 5), vote(2, 6), vote(3, 7)]
    settled = settle(votes, kind="single", taggers=2, reviewed_by=3)
    assert settled.labels == {7} and settled.status == "done" and settled.disputed
    # Without an own answer, the majority is confirmed.
    settled = settle([vote(1, 5)], kind="single", taggers=2, reviewed_by=3)
    assert settled.labels == {5} and settled.status == "done"
    settled = settle([vote(1, 5)], kind="single", taggers=1, in_review=True)
    assert settled.labels == {5} and settled.status == "review"


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed):
    rng = random.Random(seed)
    first = [rng.choice("abc") for _ in range(50)]
    second = [a if rng.random() < 0.6 else rng.choice("abc") for a in first]
    assert kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_kappa_without_variation_is_undefined():
    assert kappa("aaa", "aaa") is None and kappa("", "") is None


def test_agreement_of_a_data_set(database):
    people = [add_user(database, name, "owner") for name in "ab"]
    dataset, classes = add_dataset(database, people[0], taggers=2)
    images = add_images(database, people[0], dataset, 8)
    chosen = {0: [0, 0, 1, 1, 2, 2, 0], 1: [0, 0, 1, 2, 2, 0, 0]}
    for person, choices in chosen.items():
        items = [
            {"image": i, "add": {str(classes[c]): {}}}
            for i, c in zip(images, choices, strict=False)
        ]
        database.write(answers.write, people[person], dataset, new_id(), items)
    # Skipped images do not count.
    skip = [{"image": images[7], "flag": "skip"}]
    database.write(answers.write, people[0], dataset, new_id(), skip)
    with database.read() as connection:
        found = agreement.agreement(connection, dataset)
    (pair,) = found["pairs"]
    assert (pair["images"], pair["agree"], found["disputed"]) == (7, 5, 2)
    assert pair["kappa"] == pytest.approx(cohen_kappa_score(*chosen.values()))
