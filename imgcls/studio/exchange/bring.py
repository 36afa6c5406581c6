"""Brings tagged images into a data set: those of a file of labels, or of a zip with its images."""

import dataclasses
import hashlib
import pathlib
import shutil
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.core.errors import ConfigError
from imgcls.studio.errors import Refused
from imgcls.studio.exchange.collection import Attribute, ClassInfo, Example, Tag
from imgcls.studio.exchange.read import Incoming, read
from imgcls.studio.home import Home
from imgcls.studio.pictures import archives
from imgcls.studio.pictures.ingest import Ingest, Item
from imgcls.studio.store import answers, changes, classes, datasets
from imgcls.studio.store.changes import Action
from imgcls.studio.store.classmap import ClassMap, read_classes
from imgcls.studio.store.connect import Database, among, chunks
from imgcls.studio.store.schema import image
from imgcls.studio.store.users import User

# Names that an answer lists, at most.
_LISTED = 100


@dataclasses.dataclass(frozen=True)
class Studio:
    """What an import needs of a server."""

    home: Home
    database: Database
    ingest: Ingest


def bring(
    studio: Studio,
    user: User,
    dataset_id: int,
    request_id: str,
    file: pathlib.Path,
    name: str,
    move_splits: bool = False,
) -> dict[str, Any]:
    """Imports a file.

    Images that come along are added; tags are those of the user. Images that were there already
    keep their split once they are tagged, unless `move_splits`: a test image stays one.

    Args:
      studio: of the server.
      user: who imports; tags are this user's.
      dataset_id: where to.
      request_id: made by the client.
      file: the file, which is not changed.
      name: as its owner calls it.
      move_splits: whether the splits of the file count for tagged images too.

    Returns:
      `{"seq", "format", "images", "added", "tagged", "classes", "kept_splits", "reviewed",
      "unmatched": [names], "unreadable": [...], "problems": [lines]}`.

    Raises:
      ConfigError, Refused: the file is not known, or does not fit the data set.
    """
    with studio.database.read() as connection:
        if again := changes.repeated(connection, request_id, user.id):
            return again
        kind = datasets.get(connection, dataset_id).kind
    place = studio.home.uploads / f"import-{uuid.uuid4()}"
    place.mkdir()
    try:
        incoming = read(str(_unpack(file, name, place)), True if kind == "multi" else None)
        _check_kind(incoming, kind)
        hashes = [_hash(example) for example in incoming.examples]
        added = _ingest(studio, user, dataset_id, request_id, incoming.examples, hashes)
        return studio.database.write(
            _apply, user, dataset_id, request_id, incoming, hashes, added, move_splits
        )
    except ConfigError as e:  # Its text names files where they are for this moment.
        raise Refused(str(e).replace(f"{place}/zip/", "").replace(f"{place}/", "")) from e
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _unpack(file: pathlib.Path, name: str, place: pathlib.Path) -> pathlib.Path:
    """The file of labels, or the directory of what a zip has."""
    if not archives.is_zip(file):
        target = place / pathlib.PurePath(name).name
        if target == place or not target.suffix:
            raise Refused(f"{name!r}: send a .csv, .tsv, .jsonl, .json or .zip file")
        shutil.copyfile(file, target)
        return target
    folder = place / "zip"
    with archives.open_zip(file) as archive:
        for member in archives.list_members(archive):
            if member.why:
                continue  # Images among them are reported as missing.
            target = folder / member.folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            archives.unpack(archive, member, target)
    folder.mkdir(exist_ok=True)
    return folder


def _check_kind(incoming: Incoming, kind: str) -> None:
    several = next((e for e in incoming.examples if len(e.tags) > 1), None)
    if kind == "single" and several is not None:
        raise Refused(
            f"{several.name} has {len(several.tags)} tags, and the data set takes one for each "
            "image; make it multi-label first"
        )


def _hash(example: Example) -> str:
    if not example.file:
        return example.sha256
    with open(example.file, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ingest(
    studio: Studio,
    user: User,
    dataset_id: int,
    request_id: str,
    examples: tuple[Example, ...],
    hashes: list[str],
) -> dict[str, Any]:
    """Adds the images that came along and are not there yet."""
    with studio.database.read() as connection:
        query = sa.select(image.c.sha256).where(image.c.dataset_id == dataset_id)
        known = set(connection.execute(query.where(image.c.removed.is_(False))).scalars())
    items = [
        Item(pathlib.Path(example.file), example.name, example.folder)
        for example, sha256 in zip(examples, hashes, strict=True)
        if example.file and sha256 not in known
    ]
    if not items:
        return {"added": [], "unreadable": []}
    return studio.ingest.run(user, dataset_id, items, f"{request_id[:40]}.images")


def _apply(
    connection: Connection,
    user: User,
    dataset_id: int,
    request_id: str,
    incoming: Incoming,
    hashes: list[str],
    added: dict[str, Any],
    move_splits: bool,
) -> dict[str, Any]:
    if again := changes.repeated(connection, request_id, user.id):
        return again
    single = datasets.get(connection, dataset_id).kind == "single"
    made = _bring_classes(connection, user, dataset_id, request_id, incoming.classes)
    known = read_classes(connection, dataset_id)
    ids, unmatched = _match(connection, dataset_id, incoming.examples, hashes)
    rows = _rows(connection, list(ids))
    mine = answers.read(connection, user.id, list(ids))
    new, found = set(added["added"]), []
    kept = reviewed = tagged = 0
    for image_id, example in ids.items():
        row = rows[image_id]
        if row.reviewed_by is not None:
            reviewed += 1
            continue
        before, after = {}, {}
        old = mine.get(image_id, (None, 0))[0]
        answer = answers.changed(old, _item(example, old, known), known, single)
        if answer != old:
            before |= {"user": user.id, "answer": old}
            after |= {"user": user.id, "answer": answer}
            tagged += 1
        if example.comment and example.comment != row.comment:
            before["comment"], after["comment"] = row.comment, example.comment
        if example.split and example.split != row.split:
            if move_splits or image_id in new or row.status == "new":
                before["split"], after["split"] = row.split, example.split
            else:
                kept += 1
        if after:
            found.append((image_id, before, after))
    result = {
        "format": incoming.format,
        "images": len(ids),
        "added": len(added["added"]),
        "tagged": tagged,
        "classes": made,
        "kept_splits": kept,
        "reviewed": reviewed,
        "unmatched": unmatched[:_LISTED],
        "unreadable": added["unreadable"][:_LISTED],
        "problems": incoming.problems,
    }
    what = f"imported tags of {len(ids):,} images"
    action = Action(request_id, user.id, dataset_id, "import", what)
    groups = changes.group_changes(found)
    return changes.record(connection, action, groups=groups, result=result)


def _match(
    connection: Connection, dataset_id: int, examples: tuple[Example, ...], hashes: list[str]
) -> tuple[dict[int, Example], list[str]]:
    """The images that examples are of: by content, else by folder and name, else by name alone."""
    query = sa.select(image.c.id, image.c.sha256, image.c.folder, image.c.name)
    here = sa.and_(image.c.dataset_id == dataset_id, image.c.removed.is_(False))
    by_hash: dict[str, int] = {}
    by_path: dict[str, list[int]] = {}
    by_name: dict[str, list[int]] = {}
    for row in connection.execute(query.where(here)):
        by_hash[row.sha256] = row.id
        by_path.setdefault(f"{row.folder}/{row.name}".strip("/"), []).append(row.id)
        by_name.setdefault(row.name, []).append(row.id)
    found: dict[int, Example] = {}
    unmatched = []
    for example, sha256 in zip(examples, hashes, strict=True):
        path = f"{example.folder}/{example.name}".strip("/")
        same = [by_hash[sha256]] if sha256 in by_hash else by_path.get(path)
        same = same or (by_name.get(example.name, []) if not sha256 else [])
        if len(same) == 1 and same[0] not in found:
            found[same[0]] = example
        else:
            unmatched.append(path)
    return found, unmatched


def _rows(connection: Connection, ids: list[int]) -> dict[int, Any]:
    columns = (image.c.id, image.c.comment, image.c.split, image.c.status, image.c.reviewed_by)
    return {
        row.id: row
        for part in chunks(ids)
        for row in connection.execute(sa.select(*columns).where(among(image.c.id, part)))
    }


def _item(example: Example, old: Any, known: ClassMap) -> dict[str, Any]:
    """What an example says, as an item of `answers.changed`: its tags, and no others."""
    ids = {known.rows[c].name: c for c in known.live}
    add = {str(ids[tag.name]): _value(tag, known.rows[ids[tag.name]]) for tag in example.tags}
    if not add:
        return {"flag": "none"}
    before = known.classes((old or {}).get("tags", {}))
    return {"add": add, "remove": [c for c in before if str(c) not in add], "flag": None}


def _value(tag: Tag, row: Any) -> dict[str, Any]:
    numbers = {a["name"]: a["id"] for a in row.attributes}
    attributes = {numbers[name]: value for name, value in tag.attributes.items()}
    return {"attributes": attributes, "text": tag.text}


def _bring_classes(
    connection: Connection,
    user: User,
    dataset_id: int,
    request_id: str,
    infos: tuple[ClassInfo, ...],
) -> int:
    """Makes the classes that are missing, and adds attributes; returns how many were made."""
    known = read_classes(connection, dataset_id)
    ids = {known.rows[c].name: c for c in known.live}
    taken = {known.rows[c].hotkey for c in known.live}
    wanted = []
    for info in infos:
        if info.name in ids:
            _add_attributes(
                connection, user, f"{request_id[:40]}", known.rows[ids[info.name]], info
            )
            continue
        values: dict[str, Any] = {"name": info.name, "description": info.description}
        values["attributes"] = [_attribute(a) for a in info.attributes]
        if info.colour:
            values["colour"] = info.colour
        if info.hotkey and info.hotkey not in taken:
            values["hotkey"] = info.hotkey
            taken.add(info.hotkey)
        wanted.append(values)
    if wanted:
        number = f"{request_id[:40]}.classes"
        classes.create(connection, user, dataset_id, number, wanted)
    return len(wanted)


def _attribute(attribute: Attribute) -> dict[str, Any]:
    row: dict[str, Any] = {"name": attribute.name, "kind": attribute.kind}
    if attribute.kind in ("choice", "choices"):
        if not attribute.options:
            return {"name": attribute.name, "kind": "text"}
        row["options"] = list(attribute.options)
    return row


def _add_attributes(
    connection: Connection, user: User, request_id: str, row: Any, info: ClassInfo
) -> None:
    """Adds attributes and options to a class that was there already."""
    attributes = [dict(a) for a in row.attributes]
    known = {a["name"]: a for a in attributes}
    for new in map(_attribute, info.attributes):
        old = known.get(new["name"])
        if old is None:
            attributes.append(new)
        elif old["kind"] != new["kind"]:
            raise Refused(
                f"class {row.name!r}: the attribute {new['name']!r} is {old['kind']} here and "
                f"{new['kind']} in the file; rename one of them"
            )
        elif "options" in new:
            old["options"] = list(dict.fromkeys([*old["options"], *new["options"]]))
    if attributes != row.attributes:
        number = f"{request_id}.class-{row.id}"
        classes.update(connection, user, row.id, number, attributes=attributes)
