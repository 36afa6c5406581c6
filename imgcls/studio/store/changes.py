"""The log of changes: every action is one row, with what it changed before and after.

An action changes rows of `class` or `dataset` (`Row`), or parts of images (`Group`), or both.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.errors import Conflict
from imgcls.studio.store.connect import among, chunks
from imgcls.studio.store.derive import derive
from imgcls.studio.store.schema import answer, change, change_image, dataset, encode, image, klass

# Columns of `image` that changes have. Of a part "answer" the part "user" says whose it is.
IMAGE_PARTS = ("split", "comment", "in_review", "reviewed_by", "removed")
_REVIEW_PARTS = ("in_review", "reviewed_by")
_TABLES = {"class": klass, "dataset": dataset}


@dataclasses.dataclass(frozen=True)
class Group:
    """Images that change in the same way.

    Attributes:
      ids: of the images.
      before, after: the parts that change, see `schema.change_image`.
    """

    ids: list[int]
    before: dict[str, Any]
    after: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of `class` or `dataset` that changes; `before` and `after` have the columns."""

    table: str
    id: int
    before: dict[str, Any]
    after: dict[str, Any]

    def inverse(self) -> "Row":
        """The change back."""
        return Row(self.table, self.id, self.after, self.before)


@dataclasses.dataclass(frozen=True)
class Action:
    """What somebody does, to be recorded.

    Attributes:
      request_id: made by the client; the same again is the same action.
      user_id: who.
      dataset_id: where.
      kind: see `schema.change`.
      what: the action as a line of text.
      data: further facts for the history.
      undoable: whether undo takes it back.
      undoes: of an undo or redo, the action.
    """

    request_id: str
    user_id: int
    dataset_id: int
    kind: str
    what: str
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    undoable: bool = True
    undoes: int | None = None


def repeated(
    connection: Connection, request_id: str, user_id: int, kind: str | None = None
) -> dict[str, Any] | None:
    """The answer to a request that was carried out before; None for a new one.

    Raises:
      Conflict: somebody else's request had this id, or one of another kind.
    """
    query = sa.select(change.c.seq, change.c.user_id, change.c.kind, change.c.result)
    row = connection.execute(query.where(change.c.request_id == request_id)).first()
    if row is None:
        return None
    if row.user_id != user_id:
        raise Conflict("request_id: it was used by somebody else; make a new UUID")
    if kind is not None and row.kind != kind:
        raise Conflict("request_id: it was used by another request; make a new UUID")
    return {"seq": row.seq, **row.result}


def record(
    connection: Connection,
    action: Action,
    *,
    groups: Sequence[Group] = (),
    rows: Sequence[Row] = (),
    result: dict[str, Any] | None = None,
    derive_ids: Sequence[int] = (),
) -> dict[str, Any]:
    """Writes an action and carries it out.

    Args:
      connection: of the writer.
      action: what is done.
      groups: the images that it changes.
      rows: the classes and data sets that it changes.
      result: further keys of the answer.
      derive_ids: further images whose labels follow from it.

    Returns:
      The answer to the request, with "seq".
    """
    now = time.time()
    data = {**action.data, "rows": [dataclasses.asdict(row) for row in rows]}
    changes = any(group.ids for group in groups) or bool(rows)
    values = {
        "request_id": action.request_id,
        "time": now,
        "user_id": action.user_id,
        "dataset_id": action.dataset_id,
        "kind": action.kind,
        "what": action.what,
        "data": data,
        "result": result or {},
        "undoable": action.undoable and changes,
        "undoes": action.undoes,
    }
    key = connection.execute(change.insert().values(values)).inserted_primary_key
    assert key is not None
    seq: int = key[0]
    for row in rows:
        set_row(connection, row)
    for group in groups:
        _log(connection, seq, group)
        _apply(connection, seq, now, group)
    touched = {i for group in groups if group.after.keys() - {"comment"} for i in group.ids}
    derive(connection, action.dataset_id, sorted(touched.union(derive_ids)))
    return {"seq": seq, **(result or {})}


def set_row(connection: Connection, row: Row) -> None:
    """Sets the columns of a class or data set."""
    table = _TABLES[row.table]
    connection.execute(table.update().where(table.c.id == row.id).values(row.after))


def group_changes(changes: Sequence[tuple[int, dict[str, Any], dict[str, Any]]]) -> list[Group]:
    """Groups (image, before, after) of single images by equal changes."""
    found: dict[tuple[str, str], list[int]] = {}
    for image_id, before, after in changes:
        found.setdefault((encode(before), encode(after)), []).append(image_id)
    return [Group(ids, json.loads(b), json.loads(a)) for (b, a), ids in found.items()]


def _log(connection: Connection, seq: int, group: Group) -> None:
    before, after = encode(group.before), encode(group.after)
    for part in chunks(group.ids):
        rows = sa.select(
            sa.literal(seq),
            image.c.id,
            sa.literal(before, change_image.c.before.type),
            sa.literal(after, change_image.c.after.type),
        ).where(among(image.c.id, part))
        columns = ["seq", "image_id", "before", "after"]
        connection.execute(change_image.insert().from_select(columns, rows))


def _apply(connection: Connection, seq: int, now: float, group: Group) -> None:
    columns = {name: value for name, value in group.after.items() if name in IMAGE_PARTS}
    columns["revision"] = seq
    if any(name in columns for name in _REVIEW_PARTS):
        columns["review_revision"] = seq
    for part in chunks(group.ids):
        connection.execute(image.update().where(among(image.c.id, part)).values(columns))
        if "answer" in group.after:
            _set_answer(connection, part, group, seq, now)


def _set_answer(connection: Connection, ids: list[int], group: Group, seq: int, now: float) -> None:
    user, value = group.after["user"], group.after["answer"]
    mine = sa.and_(answer.c.user_id == user, among(answer.c.image_id, ids))
    if value is None:
        connection.execute(answer.delete().where(mine))
        return
    values = {"tags": encode(value["tags"]), "flag": value["flag"], "revision": seq, "time": now}
    if group.before["answer"] is not None:
        connection.execute(answer.update().where(mine).values(values))
        return
    rows = sa.select(
        image.c.id,
        sa.literal(user),
        *(sa.literal(value, answer.c[name].type) for name, value in values.items()),
    ).where(among(image.c.id, ids))
    connection.execute(answer.insert().from_select(["image_id", "user_id", *values], rows))
