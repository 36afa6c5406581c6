"""Rebuilds everything that people decided from the log of changes, and compares."""

import collections
import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.store.classmap import ClassMap
from imgcls.studio.store.consensus import Vote, settle
from imgcls.studio.store.schema import (
    answer,
    change,
    change_image,
    dataset,
    encode,
    image,
    klass,
    label,
    tag,
)

# Values of an image before its first change.
_FIRST = {"removed": True, "comment": "", "in_review": False, "reviewed_by": None, "revision": 0}
_FIRST |= {"review_revision": 0}
# Problems that are listed; more are counted.
MOST = 100


class _Row:
    """A rebuilt row of a table, with its columns as attributes."""

    def __init__(self, **values: Any):
        self.__dict__.update(values)


class Rebuilt:
    """The state that follows from the log alone.

    Attributes:
      datasets, classes: `{id: columns}`.
      images: `{id: columns}` of those that changes have.
      answers: `{(image, user): {"tags", "flag", "revision"}}`.
    """

    def __init__(self, connection: Connection):
        self.datasets: dict[int, dict[str, Any]] = collections.defaultdict(dict)
        self.classes: dict[int, dict[str, Any]] = collections.defaultdict(dict)
        self.images: dict[int, dict[str, Any]] = {}
        self.answers: dict[tuple[int, int], dict[str, Any]] = {}
        query = sa.select(change.c.data).order_by(change.c.seq)
        for data in connection.execute(query).scalars():
            for row in data["rows"]:
                table = self.classes if row["table"] == "class" else self.datasets
                table[row["id"]].update(row["after"])
        after = sa.type_coerce(change_image.c.after, sa.Text)
        query = sa.select(change_image.c.seq, change_image.c.image_id, after)
        known: dict[str, dict[str, Any]] = {}
        for seq, image_id, text in connection.execute(query.order_by(change_image.c.seq)):
            if text not in known:
                known[text] = json.loads(text)
            self._apply(seq, image_id, known[text])

    def _apply(self, seq: int, image_id: int, after: dict[str, Any]) -> None:
        row = self.images.setdefault(image_id, dict(_FIRST))
        row["revision"] = seq
        row |= {name: value for name, value in after.items() if name not in ("user", "answer")}
        if after.keys() & {"in_review", "reviewed_by"}:
            row["review_revision"] = seq
        if "answer" in after:
            key = (image_id, after["user"])
            if after["answer"] is None:
                self.answers.pop(key, None)
            else:
                self.answers[key] = {**after["answer"], "revision": seq}


def check(connection: Connection) -> list[str]:
    """Compares all tables with the log; returns what differs as lines, none if all is well."""
    found = _Problems()
    rebuilt = Rebuilt(connection)
    for table, rows in ((dataset, rebuilt.datasets), (klass, rebuilt.classes)):
        _compare_rows(connection, table, rows, found)
    _compare_rows(connection, image, rebuilt.images, found)
    query = sa.select(
        answer.c.image_id, answer.c.user_id, answer.c.tags, answer.c.flag, answer.c.revision
    )
    stored = {
        (i, user): {"tags": tags, "flag": flag, "revision": revision}
        for i, user, tags, flag, revision in connection.execute(query)
    }
    found.compare("answer of (image, user)", stored, rebuilt.answers)
    _check_derived(connection, rebuilt, found)
    return found.lines()


class _Problems:
    def __init__(self) -> None:
        self._found: list[str] = []

    def compare(self, what: str, stored: dict[Any, Any], rebuilt: dict[Any, Any]) -> None:
        for key in stored.keys() | rebuilt.keys():
            if stored.get(key) != rebuilt.get(key):
                then, now = (encode(value.get(key)) for value in (rebuilt, stored))
                self._found.append(f"{what} {key}: {now} is stored, {then} follows from the log")

    def lines(self) -> list[str]:
        more = len(self._found) - MOST
        return sorted(self._found)[:MOST] + ([f"and {more:,} more"] if more > 0 else [])


def _compare_rows(
    connection: Connection, table: sa.Table, rows: dict[int, dict[str, Any]], found: _Problems
) -> None:
    names = sorted({name for row in rows.values() for name in row})
    columns = [table.c[name] for name in names]
    stored = {
        row.id: {name: row._mapping[name] for name in names}
        for row in connection.execute(sa.select(table.c.id, *columns))
    }
    rebuilt = {i: {name: row.get(name) for name in names} for i, row in rows.items()}
    found.compare(table.name, stored, rebuilt)


def _check_derived(connection: Connection, rebuilt: Rebuilt, found: _Problems) -> None:
    maps = _class_maps(rebuilt)
    answers: dict[int, list[tuple[int, dict[str, Any]]]] = collections.defaultdict(list)
    for (image_id, user), value in rebuilt.answers.items():
        answers[image_id].append((user, value))
    query = sa.select(image.c.id, image.c.dataset_id, image.c.status, image.c.disputed)
    states, expected_states, labels, tags = {}, {}, set(), set()
    for image_id, dataset_id, status, disputed in connection.execute(query):
        row, about = rebuilt.images.get(image_id, _FIRST), rebuilt.datasets[dataset_id]
        classes = maps.get(dataset_id, ClassMap(()))
        votes = [
            Vote(user, classes.classes(value["tags"]), value["flag"])
            for user, value in answers.get(image_id, ())
        ]
        settled = settle(
            votes,
            kind=about["kind"],
            taggers=about["taggers"],
            reviewed_by=row["reviewed_by"],
            in_review=row["in_review"],
        )
        states[image_id] = [status, disputed]
        expected_states[image_id] = [settled.status, settled.disputed]
        labels |= {(image_id, class_id) for class_id in settled.labels}
        tags |= {(image_id, c, vote.user) for vote in votes for c in vote.classes}
    found.compare("status of image", states, expected_states)
    for table, expected in ((label, labels), (tag, tags)):
        stored = {tuple(row): True for row in connection.execute(sa.select(*table.c))}
        found.compare(table.name, stored, dict.fromkeys(expected, True))


def _class_maps(rebuilt: Rebuilt) -> dict[int, ClassMap]:
    rows = collections.defaultdict(list)
    for class_id, columns in rebuilt.classes.items():
        rows[columns["dataset_id"]].append(_Row(id=class_id, **columns))
    return {dataset_id: ClassMap(members) for dataset_id, members in rows.items()}
