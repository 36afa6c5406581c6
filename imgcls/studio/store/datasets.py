"""Data sets: made, changed, counted."""

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.errors import Conflict, NotFound, Refused
from imgcls.studio.store import changes, users
from imgcls.studio.store.changes import Action, Row
from imgcls.studio.store.classmap import read_classes
from imgcls.studio.store.schema import answer, change, dataset, image, label, tag
from imgcls.studio.store.users import User

KINDS = ("single", "multi")
SPLITS = ("train", "val", "test")
FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def get(connection: Connection, dataset_id: int) -> Any:
    """The row of a data set.

    Raises:
      NotFound: there is none.
    """
    row = connection.execute(sa.select(dataset).where(dataset.c.id == dataset_id)).first()
    if row is None:
        raise NotFound(f"there is no data set {dataset_id}; GET /api/datasets lists them")
    return row


def listing(connection: Connection) -> list[dict[str, Any]]:
    """All data sets with the number of their images, newest first."""
    counts = dict(
        connection.execute(
            sa.select(image.c.dataset_id, sa.func.count())
            .where(image.c.removed.is_(False))
            .group_by(image.c.dataset_id)
        ).all()
    )
    rows = connection.execute(sa.select(dataset).order_by(dataset.c.id.desc()))
    return [{**row._mapping, "images": counts.get(row.id, 0)} for row in rows]


def create(connection: Connection, user: User, request_id: str, **values: Any) -> dict[str, Any]:
    """Makes a data set; `values` has its name, and any of kind, taggers, fractions.

    Returns:
      `{"seq", "id"}`.
    """
    if again := changes.repeated(connection, request_id, user.id):
        return again
    row = {"kind": "single", "taggers": 1, "archived": False, "fractions": FRACTIONS, **values}
    check(connection, row)
    key = connection.execute(
        dataset.insert().values({**row, "created": time.time()})
    ).inserted_primary_key
    assert key is not None
    action = Action(
        *(request_id, user.id, key[0], "dataset.create"),
        what=f"created the data set {row['name']}",
        undoable=False,
    )
    made = Row("dataset", key[0], {}, row)
    return changes.record(connection, action, rows=[made], result={"id": key[0]})


def update(
    connection: Connection, user: User, dataset_id: int, request_id: str, **values: Any
) -> dict[str, Any]:
    """Changes name, kind, taggers, fractions or archived."""
    if again := changes.repeated(connection, request_id, user.id):
        return again
    row = get(connection, dataset_id)
    new = {k: v for k, v in values.items() if v is not None and v != row._mapping[k]}
    check(connection, new, dataset_id)
    before = {name: row._mapping[name] for name in new}
    said = ", ".join(f"{name} from {before[name]} to {value}" for name, value in new.items())
    action = Action(
        *(request_id, user.id, dataset_id, "dataset.change"), what=f"changed {said or 'nothing'}"
    )
    rows = [Row("dataset", dataset_id, before, new)] if new else []
    ids = image_ids(connection, dataset_id) if affects_labels(rows) else []
    return changes.record(connection, action, rows=rows, derive_ids=ids)


def affects_labels(rows: list[Row]) -> bool:
    """Whether labels and status of all images follow from a change of the data set."""
    return any(row.table == "dataset" and row.after.keys() & {"kind", "taggers"} for row in rows)


def image_ids(connection: Connection, dataset_id: int) -> list[int]:
    """All images of a data set, removed ones too."""
    query = sa.select(image.c.id).where(image.c.dataset_id == dataset_id)
    return list(connection.execute(query.order_by(image.c.id)).scalars())


def counts(connection: Connection, dataset_id: int, user_id: int) -> dict[str, Any]:
    """How many images by split, status and class, and how many the user has not tagged."""
    here = sa.and_(image.c.dataset_id == dataset_id, image.c.removed.is_(False))

    def by(column: sa.ColumnElement[Any]) -> dict[Any, int]:
        query = sa.select(column, sa.func.count()).where(here).group_by(column)
        return {key: count for key, count in connection.execute(query)}

    query = (
        sa.select(label.c.class_id, sa.func.count())
        .select_from(label.join(image, image.c.id == label.c.image_id))
        .where(here)
        .group_by(label.c.class_id)
    )
    by_class = {key: count for key, count in connection.execute(query)}
    untagged = sa.select(sa.func.count()).where(here, without_answer(user_id))
    by_split = by(image.c.split)
    return {
        "images": sum(by_split.values()),
        "by_split": by_split,
        "by_status": by(image.c.status),
        "by_class": by_class,
        "untagged": connection.execute(untagged).scalar_one(),
        "seq": last_seq(connection, dataset_id),
    }


def last_seq(connection: Connection, dataset_id: int) -> int:
    """The last change of a data set; 0 without one."""
    last = sa.select(sa.func.max(change.c.seq)).where(change.c.dataset_id == dataset_id)
    return connection.execute(last).scalar() or 0


def history(
    connection: Connection, dataset_id: int, before: int, limit: int
) -> list[dict[str, Any]]:
    """The actions in a data set below a seq, newest first."""
    get(connection, dataset_id)
    names = ("seq", "time", "user_id", "kind", "what", "undoes", "undone_by")
    query = sa.select(*(change.c[name] for name in names))
    query = query.where(change.c.dataset_id == dataset_id, change.c.seq < before)
    rows = connection.execute(query.order_by(change.c.seq.desc()).limit(limit))
    who = users.names(connection)
    return [{**row._mapping, "name": who.get(row.user_id)} for row in rows]


def without_answer(user_id: int) -> sa.ColumnElement[bool]:
    """Of images: the user has neither tagged them nor said "none of these"."""
    tagged = sa.exists().where(tag.c.image_id == image.c.id, tag.c.user_id == user_id)
    none = sa.exists().where(
        answer.c.image_id == image.c.id, answer.c.user_id == user_id, answer.c.flag == "none"
    )
    return ~tagged & ~none


def check(connection: Connection, values: dict[str, Any], dataset_id: int | None = None) -> None:
    """Raises Refused if a data set can't have these values."""
    if "name" in values:
        name = values["name"] = values["name"].strip()
        if not name or len(name) > 200 or not name.isprintable():
            raise Refused("name: a data set's name has 1 to 200 printable characters")
        query = sa.select(dataset.c.id).where(
            dataset.c.name == name, dataset.c.id != (dataset_id or 0)
        )
        if connection.execute(query).first():
            raise Conflict(f"name: there is a data set {name!r} already; choose another name")
    if values.get("kind", "single") not in KINDS:
        raise Refused(f"kind: there is no {values['kind']!r}; write single or multi")
    if values.get("kind") == "single" and dataset_id is not None:
        _refuse_several(connection, dataset_id)
    if not 1 <= values.get("taggers", 1) <= 99:
        raise Refused(f"taggers: {values['taggers']} of an image; write 1 to 99")
    if "fractions" in values:
        parts = values["fractions"]
        if set(parts) - set(SPLITS) or any(v < 0 for v in parts.values()):
            raise Refused('fractions: write {"train": 0.8, "val": 0.1, "test": 0.1}')
        if abs(sum(parts.values()) - 1) > 1e-6:
            raise Refused(f"fractions: their sum is {sum(parts.values()):g}; make it 1")


def _refuse_several(connection: Connection, dataset_id: int) -> None:
    classes = read_classes(connection, dataset_id)
    query = sa.select(answer.c.tags).join(image, image.c.id == answer.c.image_id)
    rows = connection.execute(query.where(image.c.dataset_id == dataset_id)).scalars()
    count = sum(len(classes.classes(tags)) > 1 for tags in rows)
    if count:
        raise Conflict(
            f"kind: {count} answers have several classes; reduce them to one before the data set "
            "becomes single-label"
        )
