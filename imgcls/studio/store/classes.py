"""Classes of a data set: made, changed, merged, deleted."""

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.core.errors import did_you_mean
from imgcls.studio.errors import Conflict, NotFound, Refused
from imgcls.studio.store import changes, datasets
from imgcls.studio.store.changes import Action, Row
from imgcls.studio.store.classmap import ClassMap, read_classes
from imgcls.studio.store.schema import answer, image, klass, label
from imgcls.studio.store.users import User

HOTKEYS = "123456789abcdefghijklmnopqrstuvwxyz"
ATTRIBUTE_KINDS = ("choice", "choices", "yes_no", "number", "text")
# Okabe and Ito (2008), then darker ones: apart for color-blind people too.
PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#7f7f7f"),
    *("#004a75", "#9a6a00", "#00664b", "#8a4f70", "#8f3f00", "#2f7aa3", "#a39a1f", "#444444"),
)
_MOST = 10_000


def get(connection: Connection, class_id: int) -> Any:
    """The row of a class, also of a deleted one.

    Raises:
      NotFound: there is none.
    """
    row = connection.execute(sa.select(klass).where(klass.c.id == class_id)).first()
    if row is None:
        raise NotFound(
            f"there is no class {class_id}; GET /api/datasets/DATASET/classes lists them"
        )
    return row


def listing(connection: Connection, dataset_id: int) -> list[dict[str, Any]]:
    """The classes that can be used, in their order, with the number of images that have them."""
    datasets.get(connection, dataset_id)
    classes = read_classes(connection, dataset_id)
    query = (
        sa.select(label.c.class_id, sa.func.count())
        .join(image, image.c.id == label.c.image_id)
        .where(image.c.dataset_id == dataset_id, image.c.removed.is_(False))
        .group_by(label.c.class_id)
    )
    counts = {class_id: count for class_id, count in connection.execute(query)}
    return [{**_public(classes.rows[c]), "images": counts.get(c, 0)} for c in classes.live]


def create(
    connection: Connection,
    user: User,
    dataset_id: int,
    request_id: str,
    wanted: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Makes classes, each `{"name", "colour", "hotkey", "description", "attributes"}`.

    All but the name may be left out: the next color, and the next free hotkey, are given.

    Returns:
      `{"seq", "ids"}`.
    """
    if again := changes.repeated(connection, request_id, user.id):
        return again
    datasets.get(connection, dataset_id)
    classes = read_classes(connection, dataset_id)
    if not wanted or len(classes.rows) + len(wanted) > _MOST:
        raise Refused(f"classes: {len(wanted)} of them; write 1 to {_MOST:,}")
    names = {classes.rows[c].name for c in classes.live}
    keys = {classes.rows[c].hotkey for c in classes.live}
    keys |= {str(values["hotkey"]).lower() for values in wanted if values.get("hotkey")}
    free = (key for key in HOTKEYS if key not in keys)
    rows: list[Row] = []
    for number, values in enumerate(wanted, len(classes.rows)):
        row = {
            "name": values["name"],
            "colour": values.get("colour") or PALETTE[number % len(PALETTE)],
            "hotkey": values["hotkey"] if "hotkey" in values else next(free, None),
            "description": values.get("description") or "",
            "attributes": values.get("attributes") or [],
        }
        row = _checked(row)
        if row["name"] in names:
            raise Conflict(f"classes: {row['name']!r} is there already; leave it out")
        names.add(row["name"])
        row |= {"dataset_id": dataset_id, "position": number, "deleted": False, "merged_into": None}
        key = connection.execute(klass.insert().values(row)).inserted_primary_key
        assert key is not None
        rows.append(Row("class", key[0], {"deleted": True}, row))
    check_hotkeys(connection, dataset_id)
    said = ", ".join(row.after["name"] for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    action = Action(
        *(request_id, user.id, dataset_id, "class.create"),
        what=f"created {len(rows)} {'class' if len(rows) == 1 else 'classes'}: {said}",
    )
    result = {"ids": [row.id for row in rows]}
    return changes.record(connection, action, rows=rows, result=result)


def update(
    connection: Connection, user: User, class_id: int, request_id: str, **values: Any
) -> dict[str, Any]:
    """Changes name, color, hotkey, description, position or attributes. Tags are not touched."""
    if again := changes.repeated(connection, request_id, user.id):
        return again
    row = _usable(connection, class_id)
    new = _checked(values)
    new = {k: v for k, v in new.items() if v != row._mapping[k]}
    if "name" in new:
        check_name(connection, row.dataset_id, new["name"], class_id)
    before = {k: row._mapping[k] for k in new}
    action = Action(
        *(request_id, user.id, row.dataset_id, "class.change"),
        what=f"renamed {row.name} to {new['name']}" if "name" in new else f"changed {row.name}",
    )
    rows = [Row("class", class_id, before, new)] if new else []
    result = changes.record(connection, action, rows=rows)
    check_hotkeys(connection, row.dataset_id)
    return result


def merge(
    connection: Connection, user: User, class_id: int, into: int, request_id: str
) -> dict[str, Any]:
    """Merges a class into another: its tags count as tags of the other from now on."""
    if again := changes.repeated(connection, request_id, user.id):
        return again
    row, target = _usable(connection, class_id), _usable(connection, into)
    if target.dataset_id != row.dataset_id or into == class_id:
        raise Refused(f"into: {target.name!r} is not another class of the same data set")
    action = Action(
        *(request_id, user.id, row.dataset_id, "class.merge"),
        what=f"merged {row.name} into {target.name}",
    )
    return _retire(connection, action, row, {"merged_into": into})


def delete(connection: Connection, user: User, class_id: int, request_id: str) -> dict[str, Any]:
    """Deletes a class: its tags do not count from now on."""
    if again := changes.repeated(connection, request_id, user.id):
        return again
    row = _usable(connection, class_id)
    action = Action(
        *(request_id, user.id, row.dataset_id, "class.delete"), what=f"deleted {row.name}"
    )
    return _retire(connection, action, row, {"deleted": True})


def effect(connection: Connection, class_id: int, merge_into: int | None = None) -> dict[str, Any]:
    """What deleting a class, or merging it, does to the tags.

    Returns:
      `{"images"`: that anybody has tagged with it, `"answers"`: that name it, `"labels"`: images
      whose settled tags have it, `"both"`: images that have both classes, `"left"`: answers that
      name no class afterwards, `"what"`: all this as text`}`.
    """
    row = _usable(connection, class_id)
    target = None if merge_into is None else _usable(connection, merge_into)
    classes = read_classes(connection, row.dataset_id)
    images, answers, both, left = set(), 0, set(), 0
    for image_id, tags in _answers_with(connection, row.dataset_id, classes, class_id):
        named = classes.classes(tags)
        if class_id not in named:
            continue
        images.add(image_id)
        answers += 1
        left += len(named) == 1
        if merge_into in named:
            both.add(image_id)
    query = sa.select(sa.func.count()).where(label.c.class_id == class_id)
    labels = connection.execute(query).scalar_one()
    if target is not None:
        what = f"{row.name} of {len(images):,} images becomes {target.name}"
        left = 0
    else:
        what = f"{row.name} is taken from {len(images):,} images; {left:,} answers become empty"
    counts = {"images": len(images), "answers": answers, "labels": labels, "left": left}
    return counts | {"both": len(both), "what": f"{what}. Undo brings it back"}


def affected(connection: Connection, dataset_id: int, rows: Sequence[Row]) -> list[int]:
    """The images whose labels may follow from changed classes: deleted, merged, or brought back."""
    ids: set[int] = set()
    classes = read_classes(connection, dataset_id)
    for row in rows:
        if row.table == "class" and row.after.keys() & {"deleted", "merged_into"}:
            ids.update(i for i, _ in _answers_with(connection, dataset_id, classes, row.id))
    return sorted(ids)


def check_name(connection: Connection, dataset_id: int, name: str, class_id: int) -> None:
    """Raises Conflict if another class of the data set has the name."""
    classes = read_classes(connection, dataset_id)
    if any(classes.rows[c].name == name and c != class_id for c in classes.live):
        raise Conflict(f"name: there is a class {name!r} already; merge them, or choose another")


def _retire(
    connection: Connection, action: Action, row: Any, new: dict[str, Any]
) -> dict[str, Any]:
    rows = [Row("class", row.id, {name: row._mapping[name] for name in new}, new)]
    # Before the change and after it, the same answers name the class.
    ids = affected(connection, action.dataset_id, rows)
    result = {"images": len(ids)}
    return changes.record(connection, action, rows=rows, result=result, derive_ids=ids)


def _answers_with(
    connection: Connection, dataset_id: int, classes: ClassMap, class_id: int
) -> list[tuple[int, dict[str, Any]]]:
    """(image, tags) of the answers whose tags pass through a class."""
    keys = {str(c) for c in classes.standing_for(class_id)}
    query = (
        sa.select(answer.c.image_id, answer.c.tags)
        .join(image, image.c.id == answer.c.image_id)
        .where(image.c.dataset_id == dataset_id, answer.c.tags != {})
    )
    return [(i, tags) for i, tags in connection.execute(query) if keys & tags.keys()]


def _usable(connection: Connection, class_id: int) -> Any:
    row = get(connection, class_id)
    if row.deleted or row.merged_into is not None:
        raise Conflict(f"the class {row.name!r} was deleted or merged; undo that first")
    return row


def _public(row: Any) -> dict[str, Any]:
    names = (
        "id",
        "dataset_id",
        "name",
        "colour",
        "hotkey",
        "description",
        "position",
        "attributes",
    )
    return {name: row._mapping[name] for name in names}


def check_hotkeys(connection: Connection, dataset_id: int) -> None:
    """Raises Conflict if two classes have the same hotkey."""
    classes, seen = read_classes(connection, dataset_id), {}
    for row in (classes.rows[c] for c in classes.live):
        if row.hotkey is not None and seen.setdefault(row.hotkey, row.name) != row.name:
            raise Conflict(
                f"hotkey: {row.hotkey} is the key of {seen[row.hotkey]!r} already; choose another"
            )


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values in their stored form."""
    values = dict(values)
    if "name" in values:
        values["name"] = name = str(values["name"]).strip()
        if not name or len(name) > 200 or not name.isprintable():
            raise Refused("name: a class's name has 1 to 200 printable characters")
    if "colour" in values:
        values["colour"] = str(values["colour"]).lower()
        if not re.fullmatch("#[0-9a-f]{6}", values["colour"]):
            raise Refused(f"colour: {values['colour'][:20]!r}; write #rrggbb")
    if values.get("hotkey"):
        values["hotkey"] = str(values["hotkey"]).lower()
        if values["hotkey"] not in HOTKEYS or len(values["hotkey"]) != 1:
            raise Refused(f"hotkey: {values['hotkey'][:20]!r}; write 1 to 9 or a to z")
    elif "hotkey" in values:
        values["hotkey"] = None
    if "attributes" in values:
        values["attributes"] = _checked_attributes(values["attributes"])
    return values


def _checked_attributes(attributes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gives new attributes an id, and checks kinds and options."""
    used = {a.get("id") for a in attributes}
    free = (f"a{n}" for n in range(1, 10_000) if f"a{n}" not in used)
    found: list[dict[str, Any]] = []
    for item in attributes:
        name, kind = str(item.get("name", "")).strip(), item.get("kind")
        if not name or len(name) > 200 or not name.isprintable():
            raise Refused("attributes: each has a name of 1 to 200 printable characters")
        if kind not in ATTRIBUTE_KINDS:
            near = did_you_mean(str(kind), ATTRIBUTE_KINDS)
            kinds = ", ".join(ATTRIBUTE_KINDS)
            raise Refused(f"attributes: {name!r} is a {kind!r}{near}; write one of {kinds}")
        options = [str(option) for option in item.get("options") or []]
        if (kind in ("choice", "choices")) != bool(options):
            raise Refused(f"attributes: {name!r}: options are for choice and choices, at least one")
        if len(set(options)) < len(options):
            raise Refused(f"attributes: {name!r} has an option twice; write it once")
        entry = {"id": item.get("id") or next(free), "name": name, "kind": kind}
        found.append(entry | ({"options": options} if options else {}))
    for key in ("id", "name"):
        if len({a[key] for a in found}) < len(found):
            raise Refused(f"attributes: two have the same {key}; choose another")
    return found
