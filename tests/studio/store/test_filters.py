"""Filters against a loop in plain Python."""

import random

import pytest
import sqlalchemy as sa

from imgcls.studio.errors import Refused
from imgcls.studio.store import bulk, datasets, filters, schema
from imgcls.studio.store.filters import Filter
from tests.studio.homes import add_dataset, add_images, add_user, new_id


@pytest.fixture
def world(database):
    """A data set of 120 images with answers, predictions and findings at random."""
    rng = random.Random(0)
    people = [add_user(database, name, "owner") for name in "ab"]
    dataset, classes = add_dataset(database, people[0], taggers=2, kind="multi")
    other, _ = add_dataset(database, people[0])
    add_images(database, people[0], other, 5)
    images = add_images(database, people[0], dataset, 120)
    for person in people:
        for action in ({"tag": [classes[0]]}, {"tag": [classes[1]]}, {"flag": "none"}):
            chosen = rng.sample(images, 40)
            database.write(bulk.apply, person, dataset, new_id(), chosen, action)

    def fill(connection):
        model = {"dataset_id": dataset, "checkpoint": "x", "created": 1.0}
        connection.execute(schema.model.insert().values(model))
        connection.execute(schema.dataset.update().values(model_id=1))
        rows = [
            {"model_id": 1, "image_id": i, "rank": r, "class_id": c, "score": s}
            for i in rng.sample(images, 90)
            for r, (c, s) in enumerate(
                zip(rng.sample(classes, 2), sorted((rng.random(), rng.random()))[::-1], strict=True)
            )
        ]
        connection.execute(schema.prediction.insert(), rows)
        findings = [{"image_id": i, "kind": rng.choice("xy")} for i in rng.sample(images, 20)]
        connection.execute(schema.finding.insert(), findings)
        for i in rng.sample(images, 10):
            near = schema.image.update().where(schema.image.c.id == i)
            connection.execute(near.values(cluster=images[0], comment="50% of A_b"))

    database.write(fill)
    return dataset, classes, people, images


def read(database, images):
    """Everything about each image, to filter in Python."""
    with database.read() as c:
        found = {
            row.id: {**row._mapping, "labels": set(), "tags": {}, "flags": {}, "findings": set()}
            for row in c.execute(sa.select(schema.image).where(schema.image.c.id.in_(images)))
        }
        for i, class_id in c.execute(sa.select(schema.label)):
            found[i]["labels"].add(class_id)
        for i, class_id, user in c.execute(sa.select(schema.tag)):
            found[i]["tags"].setdefault(user, set()).add(class_id)
        for i, user, flag in c.execute(
            sa.select(schema.answer.c.image_id, schema.answer.c.user_id, schema.answer.c.flag)
        ):
            found[i]["flags"][user] = flag
        for row in c.execute(sa.select(schema.finding)):
            found[row.image_id]["findings"].add(row.kind)
        for row in c.execute(sa.select(schema.prediction).where(schema.prediction.c.rank == 0)):
            found[row.image_id]["best"] = (row.class_id, row.score)
    return found


def test_filters_select_what_a_loop_selects(database, world):
    dataset, (cat, dog, _), (ann, bob), images = world
    rows = read(database, images)
    clusters = [row["cluster"] for row in rows.values()]
    cases = {
        "class": ({"class": [cat]}, lambda r: cat in r["labels"]),
        "classes": ({"class": [cat, dog]}, lambda r: r["labels"] & {cat, dog}),
        "tagged_by": (
            {"tagged_by": bob.id},
            lambda r: bob.id in r["tags"] or r["flags"].get(bob.id) == "none",
        ),
        "untagged": (
            {"untagged": True},
            lambda r: ann.id not in r["tags"] and r["flags"].get(ann.id) != "none",
        ),
        "status": ({"status": ["review", "new"]}, lambda r: r["status"] in ("review", "new")),
        "split": ({"split": "test"}, lambda r: r["split"] == "test"),
        "text": ({"text": "a_B"}, lambda r: "a_b" in r["comment"].lower()),
        "percent": ({"text": "0%"}, lambda r: "0%" in r["comment"]),
        "name": ({"text": "0011"}, lambda r: "0011" in r["name"]),
        "predicted": ({"predicted": dog}, lambda r: r.get("best", (0,))[0] == dog),
        "confidence": (
            {"confidence_min": 0.5, "confidence_max": 0.8},
            lambda r: "best" in r and 0.5 <= r["best"][1] <= 0.8,
        ),
        "disagrees": (
            {"disagrees": True},
            lambda r: "best" in r and r["labels"] and r["best"][0] not in r["labels"],
        ),
        "disputed": ({"disputed": True}, lambda r: r["disputed"]),
        "flag": ({"flag": "none"}, lambda r: "none" in r["flags"].values()),
        "near": ({"near_duplicates": True}, lambda r: clusters.count(r["cluster"]) > 1),
        "finding": ({"finding": "x"}, lambda r: "x" in r["findings"]),
        "folder": ({"folder": "f1"}, lambda r: r["folder"] == "f1"),
        "both": (
            {"class": cat, "folder": ["f1", "f2"], "split": "train"},
            lambda r: cat in r["labels"] and r["folder"] in ("f1", "f2") and r["split"] == "train",
        ),
        "media": ({"media": "video"}, lambda r: False),
        "all": ({}, lambda r: True),
    }
    for name, (values, wanted) in cases.items():
        with database.read() as connection:
            got = filters.ids(connection, dataset, ann.id, Filter(**values))
        expected = [i for i in images if wanted(rows[i])]
        assert got == expected, name
        assert name == "media" or expected, f"{name}: a case that selects nothing tests nothing"


def test_orders(database, world):
    dataset, _, (ann, _), images = world
    rows = read(database, images)
    with database.read() as connection:
        found = {s: filters.ids(connection, dataset, ann.id, Filter(), s) for s in filters.SORTS}
        with pytest.raises(Refused, match="write one of"):
            filters.ids(connection, dataset, ann.id, Filter(), "size")
    assert found["-id"] == images[::-1]
    assert found["name"] == sorted(images, key=lambda i: (rows[i]["name"], i))
    scored = [i for i in found["confidence"] if "best" in rows[i]]
    assert scored == sorted(scored, key=lambda i: rows[i]["best"][1])
    assert found["confidence"][: len(scored)] == scored  # Those without a score come last.
    assert found["-confidence"][: len(scored)] == scored[::-1]
    assert found["random"] not in (images, images[::-1]) and sorted(found["random"]) == images


def test_counts_are_those_of_the_filters(database, world):
    dataset, classes, (ann, _), images = world
    with database.read() as connection:
        counts = datasets.counts(connection, dataset, ann.id)

        def count(**values):
            return len(filters.ids(connection, dataset, ann.id, Filter(**values)))

        assert counts["images"] == len(images) and counts["untagged"] == count(untagged=True)
        assert counts["by_class"] == {c: count(**{"class": c}) for c in classes[:2]}
        for key in ("split", "status"):
            for value, n in counts[f"by_{key}"].items():
                assert n == count(**{key: value})
