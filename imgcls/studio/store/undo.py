"""Undo and redo of a user's own actions."""

import collections
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Text, type_coerce

from imgcls.studio.errors import Conflict, NotFound
from imgcls.studio.store import changes, classes, datasets
from imgcls.studio.store.changes import IMAGE_PARTS, Action, Group, Row
from imgcls.studio.store.connect import among, chunks
from imgcls.studio.store.schema import answer, change, change_image, dataset, encode, image, klass
from imgcls.studio.store.users import User

_TABLES = {"class": klass, "dataset": dataset}


def undo(connection: Connection, user: User, dataset_id: int, request_id: str) -> dict[str, Any]:
    """Takes back the user's last action in a data set that was not taken back yet.

    Images that were changed since are left as they are.

    Returns:
      `{"seq", "undid", "changed", "skipped", "what"}`.

    Raises:
      NotFound: there is nothing to undo.
      Conflict: all that it changed was changed since.
    """
    if again := changes.repeated(connection, request_id, user.id):
        return again
    target = _last(connection, user, dataset_id, change.c.undone_by.is_(None))
    if target is None:
        raise NotFound("there is nothing to undo in this data set")
    of = target.redone_by or target.seq
    result = _invert(connection, user, request_id, "undo", target, of)
    _point(connection, target.seq, undone_by=result["seq"])
    return result


def redo(connection: Connection, user: User, dataset_id: int, request_id: str) -> dict[str, Any]:
    """Does again what the user's last undo took back; a new action ends that.

    Raises:
      NotFound: there is nothing to redo.
    """
    if again := changes.repeated(connection, request_id, user.id):
        return again
    newest = _last(connection, user, dataset_id, sa.true())
    query = (
        _actions(user, dataset_id)
        # Undone after the user's newest action: what was undone before that is given up.
        .where(change.c.undone_by > (newest.seq if newest else 0))
        .order_by(change.c.seq)
        .limit(1)
    )
    target = connection.execute(query).first()
    if target is None:
        raise NotFound("there is nothing to redo in this data set")
    result = _invert(connection, user, request_id, "redo", target, target.undone_by)
    _point(connection, target.seq, undone_by=None, redone_by=result["seq"])
    return result


def _actions(user: User, dataset_id: int) -> sa.Select[Any]:
    return sa.select(change).where(
        change.c.user_id == user.id, change.c.dataset_id == dataset_id, change.c.undoable.is_(True)
    )


def _last(
    connection: Connection, user: User, dataset_id: int, condition: sa.ColumnElement[bool]
) -> Any:
    datasets.get(connection, dataset_id)
    query = _actions(user, dataset_id).where(condition).order_by(change.c.seq.desc()).limit(1)
    return connection.execute(query).first()


def _point(connection: Connection, seq: int, **values: Any) -> None:
    connection.execute(change.update().where(change.c.seq == seq).values(values))


def _invert(
    connection: Connection, user: User, request_id: str, kind: str, target: Any, of: int
) -> dict[str, Any]:
    """Records the inverse of the change `of`, which carried out `target` or took it back."""
    data = connection.execute(sa.select(change.c.data).where(change.c.seq == of)).scalar_one()
    rows = [Row(**row).inverse() for row in data["rows"]]
    _check_rows(connection, target, rows)
    found: list[Group] = []
    skipped = 0
    for before, after, ids in _groups(connection, of):
        kept = _unchanged(connection, ids, after, before, user)
        skipped += len(ids) - len(kept)
        if kept:
            found.append(Group(kept, after, before))
    done = sum(len(group.ids) for group in found)
    if skipped and not done:
        raise Conflict(f"{target.what}: all of these images were changed since; nothing to {kind}")
    ids = classes.affected(connection, target.dataset_id, rows)
    if datasets.affects_labels(rows):
        ids = datasets.image_ids(connection, target.dataset_id)
    verb = "undid" if kind == "undo" else "redid"
    action = Action(
        *(request_id, user.id, target.dataset_id, kind, f"{verb}: {target.what}"),
        undoable=False,
        undoes=target.seq,
    )
    result = {"undid": target.seq, "changed": done, "skipped": skipped, "what": target.what}
    answered = changes.record(
        connection, action, groups=found, rows=rows, result=result, derive_ids=ids
    )
    classes.check_hotkeys(connection, target.dataset_id)
    return answered


def _groups(connection: Connection, seq: int) -> list[tuple[dict, dict, list[int]]]:
    before, after = (type_coerce(change_image.c[name], Text) for name in ("before", "after"))
    query = sa.select(before, after, change_image.c.image_id).where(change_image.c.seq == seq)
    found: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for b, a, image_id in connection.execute(query.order_by(change_image.c.image_id)):
        found[b, a].append(image_id)
    return [(json.loads(b), json.loads(a), ids) for (b, a), ids in found.items()]


def _unchanged(
    connection: Connection, ids: list[int], now: dict, then: dict, user: User
) -> list[int]:
    """Those of the images whose parts are still `now`, and may become `then`.

    Answers to an image that is reviewed are read-only, unless the review itself is taken back; an
    image that somebody else has tagged stays.
    """
    found: list[int] = []
    for part in chunks(ids):
        query = sa.select(image.c.id).where(among(image.c.id, part)).order_by(image.c.id)
        for name in IMAGE_PARTS:
            if name in now:
                query = query.where(image.c[name].is_not_distinct_from(now[name]))
        if "answer" in now:
            query = query.where(_has_answer(now["user"], now["answer"]))
            if "reviewed_by" not in now:
                query = query.where(image.c.reviewed_by.is_(None))
        if "removed" not in now:
            query = query.where(image.c.removed.is_(False))
        elif then["removed"]:
            others = sa.exists().where(answer.c.image_id == image.c.id, answer.c.user_id != user.id)
            query = query.where(~others)
        found += connection.execute(query).scalars()
    return found


def _has_answer(user_id: int, value: dict[str, Any] | None) -> sa.ColumnElement[bool]:
    mine = sa.and_(answer.c.image_id == image.c.id, answer.c.user_id == user_id)
    if value is None:
        return ~sa.exists().where(mine)
    return sa.exists().where(
        mine,
        answer.c.tags == encode(value["tags"]),
        answer.c.flag.is_not_distinct_from(value["flag"]),
    )


def _check_rows(connection: Connection, target: Any, rows: Sequence[Row]) -> None:
    for row in rows:
        table = _TABLES[row.table]
        current = connection.execute(sa.select(table).where(table.c.id == row.id)).one()
        if any(current._mapping[name] != value for name, value in row.before.items()):
            raise Conflict(f"{target.what}: {current.name!r} was changed since; change it by hand")
        if row.table == "dataset":
            datasets.check(connection, dict(row.after), row.id)
        elif row.after.get("deleted") is not True:
            name = row.after.get("name", current.name)
            classes.check_name(connection, target.dataset_id, name, row.id)
        elif "name" in row.before:
            _check_unused(connection, row.id, current.name)


def _check_unused(connection: Connection, class_id: int, name: str) -> None:
    used = classes.effect(connection, class_id)["answers"]
    if used:
        raise Conflict(f"the class {name!r} is in {used:,} answers; delete it instead of this undo")
