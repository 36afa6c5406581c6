"""Tags, flags and comments that people give to single images."""

import math
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.errors import Conflict, NotFound, Refused
from imgcls.studio.store import changes, datasets, images
from imgcls.studio.store.changes import Action
from imgcls.studio.store.classmap import ClassMap, read_classes
from imgcls.studio.store.connect import among, chunks
from imgcls.studio.store.consensus import FLAGS
from imgcls.studio.store.schema import answer, image
from imgcls.studio.store.users import User

MOST_ITEMS = 1000
MAX_TEXT = 10_000
# An answer: {"tags": {...}, "flag": ...}; None: nothing was said.
Answer = dict[str, Any] | None


def write(
    connection: Connection,
    user: User,
    dataset_id: int,
    request_id: str,
    items: Sequence[dict[str, Any]],
    kind: str = "answer",
) -> dict[str, Any]:
    """Writes what a user says about images.

    Args:
      connection: of the writer.
      user: who says it.
      dataset_id: of all the images.
      request_id: made by the client.
      items: each `{"image", "revision", "add": {class: {"attributes", "text"}}, "remove": [class],
        "flag", "comment"}`; all but the image may be left out. `revision` is what the user saw.
      kind: "answer", or "accept" for suggestions that are confirmed.

    Returns:
      `{"seq"}`.

    Raises:
      Conflict: an image was changed since its `revision`, or is reviewed. Nothing was written.
    """
    if again := changes.repeated(connection, request_id, user.id):
        return again
    single = datasets.get(connection, dataset_id).kind == "single"
    if not 1 <= len(items) <= MOST_ITEMS:
        raise Refused(f"items: {len(items)} of them; write 1 to {MOST_ITEMS}, or use bulk")
    ids = [item["image"] for item in items]
    if len(set(ids)) < len(ids):
        raise Refused("items: an image is there twice; write one item for each image")
    rows = _images(connection, dataset_id, ids)
    classes = read_classes(connection, dataset_id)
    mine = read(connection, user.id, ids)
    _check_fresh(connection, user, items, rows, mine)
    found = []
    for item in items:
        row = rows[item["image"]]
        before, after = {}, {}
        old = mine.get(row.id, (None, 0))[0]
        new = changed(old, item, classes, single)
        if new != old:
            before |= {"user": user.id, "answer": old}
            after |= {"user": user.id, "answer": new}
        comment = item.get("comment")
        if comment is not None and comment != row.comment:
            before["comment"], after["comment"] = row.comment, _text(comment, "comment")
        if after:
            found.append((row.id, before, after))
    what = _describe(items, classes)
    action = Action(request_id, user.id, dataset_id, kind, what)
    return changes.record(connection, action, groups=changes.group_changes(found))


def read(connection: Connection, user_id: int, ids: Sequence[int]) -> dict[int, tuple[Answer, int]]:
    """`{image: (answer, revision)}` of a user, the tags as they were given."""
    found: dict[int, tuple[Answer, int]] = {}
    columns = (answer.c.image_id, answer.c.tags, answer.c.flag, answer.c.revision)
    for part in chunks(list(ids)):
        mine = sa.and_(answer.c.user_id == user_id, among(answer.c.image_id, part))
        for image_id, tags, flag, revision in connection.execute(sa.select(*columns).where(mine)):
            found[image_id] = ({"tags": tags, "flag": flag}, revision)
    return found


def changed(old: Answer, item: dict[str, Any], classes: ClassMap, single: bool) -> Answer:
    """The answer after an item's `add`, `remove` and `flag`.

    In a single-label data set the class that is added replaces the one before. Tags and "none of
    these" exclude each other: the later one counts. A tag ends a "skip".
    """
    tags = dict((old or {}).get("tags", {}))
    flag = (old or {}).get("flag")
    for class_id in item.get("remove") or ():
        _remove(tags, class_id, classes)
    add = item.get("add") or {}
    if single and len(add) > 1:
        raise Refused("add: the data set is single-label; give one class, or make it multi-label")
    for key, value in add.items():
        class_id = int(key)
        if class_id not in classes.live:
            raise NotFound(f"add: there is no class {class_id} in this data set")
        given = classes.tags(tags).get(str(class_id), {})
        if single:
            tags = {}
        else:
            _remove(tags, class_id, classes)
        tags[str(class_id)] = _value(given, value or {}, classes.rows[class_id])
    if add and flag in ("none", "skip"):
        flag = None
    if "flag" in item:
        flag = item["flag"]
        if flag is not None and flag not in FLAGS:
            raise Refused(f"flag: {flag!r}; write none, unsure, skip or null")
        if flag == "none":
            if add:
                raise Refused('flag: "none" says that no class is right; leave out add')
            tags = {}
    return {"tags": tags, "flag": flag} if tags or flag else None


def _remove(tags: dict[str, Any], class_id: int, classes: ClassMap) -> None:
    for key in list(tags):
        if classes.resolve(int(key)) == class_id:
            del tags[key]


def _value(given: dict[str, Any], value: dict[str, Any], row: Any) -> dict[str, Any]:
    """Attributes and text of a tag: those given before, changed by those of the item."""
    known = {a["id"]: a for a in row.attributes}
    attributes = dict(given.get("attributes", {}))
    for key, new in (value.get("attributes") or {}).items():
        if key not in known:
            raise NotFound(f"attributes: {row.name!r} has no {key!r}; write one of {list(known)}")
        attributes.pop(key, None)
        if new is not None:
            attributes[key] = _attribute(known[key], new)
    text = value.get("text")
    text = given.get("text", "") if text is None else _text(text, "text")
    found: dict[str, Any] = {"attributes": attributes} if attributes else {}
    return found | ({"text": text} if text else {})


def _attribute(attribute: dict[str, Any], value: Any) -> Any:
    kind, name = attribute["kind"], attribute["name"]
    options = attribute.get("options", [])
    if kind == "choice" and value not in options:
        raise Refused(f"attributes: {name!r}: write one of {options}")
    if kind == "choices":
        if not isinstance(value, list) or any(v not in options for v in value):
            raise Refused(f"attributes: {name!r}: write a list of {options}")
        return [option for option in options if option in value]
    if kind == "yes_no" and not isinstance(value, bool):
        raise Refused(f"attributes: {name!r}: write true or false")
    if kind == "number" and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ):
        raise Refused(f"attributes: {name!r}: write a number")
    return _text(value, name) if kind == "text" else value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
        raise Refused(f"{where}: write a text of at most {MAX_TEXT:,} characters")
    return value


def _images(connection: Connection, dataset_id: int, ids: list[int]) -> dict[int, Any]:
    query = sa.select(
        *(image.c.id, image.c.name, image.c.comment, image.c.reviewed_by, image.c.review_revision)
    ).where(image.c.dataset_id == dataset_id, image.c.removed.is_(False))
    rows = {row.id: row for row in connection.execute(query.where(among(image.c.id, ids)))}
    if missing := [i for i in ids if i not in rows]:
        raise NotFound(f"items: there is no image {missing[0]} in data set {dataset_id}")
    return rows


def _check_fresh(
    connection: Connection,
    user: User,
    items: Sequence[dict[str, Any]],
    rows: dict[int, Any],
    mine: dict[int, tuple[Answer, int]],
) -> None:
    stale = []
    for item in items:
        row, seen = rows[item["image"]], item.get("revision")
        if seen is not None and seen < max(row.review_revision, mine.get(row.id, (None, 0))[1]):
            stale.append({"image": row.id, "seen": seen})
    if stale:
        now = {
            cell["id"]: cell for cell in images.cells(connection, user, [s["image"] for s in stale])
        }
        for entry in stale:
            entry["now"] = now[entry["image"]]
            entry["changes"] = images.history(connection, entry["image"], entry.pop("seen"))
        raise Conflict(
            f"items: {len(stale)} of {len(items)} images were changed since; look at them and send "
            "what still holds",
            stale=stale,
        )
    for item in items:
        row = rows[item["image"]]
        if row.reviewed_by is not None:
            raise Conflict(f"{row.name} is reviewed; a reviewer may reopen it", reviewed=[row.id])


def _describe(items: Sequence[dict[str, Any]], classes: ClassMap) -> str:
    of = "1 image" if len(items) == 1 else f"{len(items):,} images"
    said = []
    item = items[0]
    if item.get("add"):
        said.append("tagged " + ", ".join(classes.rows[int(c)].name for c in item["add"]))
    if item.get("remove"):
        names = [classes.rows[int(c)].name for c in item["remove"] if int(c) in classes.rows]
        said.append("untagged " + ", ".join(names))
    if "flag" in item:
        said.append(
            {None: "cleared the flag", "none": "none of these"}.get(item["flag"], item["flag"])
        )
    if item.get("comment") is not None:
        said.append("commented")
    return f"{'; '.join(said) or 'nothing'}: {of}"
