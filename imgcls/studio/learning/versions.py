"""Versions: what is tagged now, frozen.

A version is a directory of the home that is named after the hash of its tags:

- `collection.jsonl`: classes, images, tags, attributes and texts, see `exchange.collection`;
- `manifest.jsonl` and `classes.txt`: what is trained on, `manifest:DIR/manifest.jsonl`;
- `images/`: links to the pictures, by the names that they were uploaded with.
"""

import dataclasses
import os
import pathlib
import shutil
import tempfile
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.core.errors import ConfigError
from imgcls.studio.errors import NotFound, Refused
from imgcls.studio.exchange import collection as collections
from imgcls.studio.exchange import manifest
from imgcls.studio.exchange.collection import Attribute, ClassInfo, Collection, Example, Tag
from imgcls.studio.exchange.write import place_pictures
from imgcls.studio.home import Home
from imgcls.studio.store import changes, datasets
from imgcls.studio.store.changes import Action
from imgcls.studio.store.classmap import ClassMap, read_classes
from imgcls.studio.store.connect import Database
from imgcls.studio.store.schema import answer, image, label, version
from imgcls.studio.store.users import User

MANIFEST = "manifest.jsonl"
COLLECTION = "collection.jsonl"


def collect(connection: Connection, home: Home, dataset_id: int) -> Collection:
    """What is tagged in a data set: the images with settled tags.

    In a multi-label data set an image that is done without a tag, "none of these", is one of them.
    """
    dataset = datasets.get(connection, dataset_id)
    classes = read_classes(connection, dataset_id)
    here = sa.and_(image.c.dataset_id == dataset_id, image.c.removed.is_(False))
    labels: dict[int, list[int]] = {}
    query = sa.select(label.c.image_id, label.c.class_id).join(
        image, image.c.id == label.c.image_id
    )
    for image_id, class_id in connection.execute(query.where(here)):
        labels.setdefault(image_id, []).append(class_id)
    details = _details(connection, classes, here)
    examples = []
    for row in connection.execute(sa.select(image).where(here)):
        own = labels.get(row.id, [])
        if own or (dataset.kind == "multi" and row.status == "done"):
            tags = [_tag(classes, c, details.get((row.id, c), {})) for c in own]
            examples.append(_example(home, row, tags))
    infos = tuple(_info(classes.rows[c]) for c in classes.live)
    return Collection(dataset.name, dataset.kind == "multi", infos, collections.ordered(examples))


def freeze(
    database: Database, home: Home, user: User, dataset_id: int, request_id: str, name: str = ""
) -> dict[str, Any]:
    """Freezes what is tagged; the version with the same tags, if there is one.

    Args:
      database: of the home.
      home: where the version is written.
      user: who freezes it.
      dataset_id: its data set.
      request_id: made by the client.
      name: of the version; '': `v` and its number.

    Returns:
      `{"seq", "id", "name", "digest", "count", "unchanged"}`.

    Raises:
      Refused: nothing is tagged.
    """
    with database.read() as connection:
        if again := changes.repeated(connection, request_id, user.id):
            return again
        found = collect(connection, home, dataset_id)
        ids = {info.name: info.id for info in _named(connection, dataset_id)}
    if not found.examples:
        raise Refused(f"{found.name}: no image has a settled tag yet; tag some images first")
    digest = collections.digest(found)
    _write(found, home, digest)
    row = {"name": name, "digest": digest, "count": len(found.examples), "class_ids": ids}
    return database.write(_record, user, dataset_id, request_id, row)


def listing(connection: Connection, dataset_id: int) -> list[dict[str, Any]]:
    """The versions of a data set, newest first."""
    datasets.get(connection, dataset_id)
    query = sa.select(version).where(version.c.dataset_id == dataset_id)
    rows = connection.execute(query.order_by(version.c.id.desc()))
    return [public(row) for row in rows]


def get(connection: Connection, version_id: int) -> Any:
    """The row of a version.

    Raises:
      NotFound: there is none.
    """
    row = connection.execute(sa.select(version).where(version.c.id == version_id)).first()
    if row is None:
        raise NotFound(
            f"there is no version {version_id}; GET /api/datasets/DATASET/versions lists them"
        )
    return row


def public(row: Any) -> dict[str, Any]:
    """A version as the API shows it."""
    names = ("id", "dataset_id", "name", "created", "created_by", "digest", "count")
    return {name: row._mapping[name] for name in names}


def folder_of(home: Home, row: Any) -> pathlib.Path:
    """Directory of a version."""
    return home.root / row.manifest


def source_of(home: Home, row: Any) -> dict[str, Any]:
    """The keys of `config.data` with which a version is trained on."""
    folder = folder_of(home, row)
    return {"source": f"manifest:{folder / MANIFEST}", "multi_label": load(home, row).multi_label}


def load(home: Home, row: Any, name: str = "") -> Collection:
    """The tags of a version; `file` is that of the picture in the home.

    Raises:
      ConfigError: the directory of the version is gone or damaged.
    """
    folder = folder_of(home, row)
    try:
        text = (folder / COLLECTION).read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"{folder}: can't be read ({e.strerror}); freeze the tags again") from e
    found = collections.from_json(text, name)
    paths = _paths(found, folder)
    examples = [
        dataclasses.replace(example, file=os.path.realpath(folder / manifest.IMAGES / path))
        for example, path in zip(found.examples, paths, strict=True)
    ]
    return dataclasses.replace(found, examples=tuple(examples))


def paths_of(home: Home, row: Any) -> dict[str, str]:
    """`{path of an image as the trainer names it, below the version's directory: its SHA-256}`."""
    folder = folder_of(home, row)
    text = (folder / COLLECTION).read_text(encoding="utf-8")
    found = collections.from_json(text)
    paths = _paths(found, folder)
    pairs = zip(paths, found.examples, strict=True)
    return {f"{manifest.IMAGES}/{path}": example.sha256 for path, example in pairs}


def _paths(found: Collection, folder: pathlib.Path) -> list[str]:
    """The images' paths, in order, as the version has them."""
    lines = (folder / MANIFEST).read_text(encoding="utf-8").split("\n")
    paths = [collections.parse(line)["path"] for line in lines if line]
    assert len(paths) == len(found.examples)
    return [path.removeprefix(f"{manifest.IMAGES}/") for path in paths]


def _record(
    connection: Connection, user: User, dataset_id: int, request_id: str, row: dict[str, Any]
) -> dict[str, Any]:
    if again := changes.repeated(connection, request_id, user.id):
        return again
    here = version.c.dataset_id == dataset_id
    query = sa.select(version).where(here, version.c.digest == row["digest"])
    same = connection.execute(query.order_by(version.c.id.desc())).first()
    if same is not None and row["name"] in ("", same.name):
        known, unchanged = public(same), True
    else:
        count = connection.execute(sa.select(sa.func.count()).where(here)).scalar_one()
        values = {**row, "name": row["name"] or f"v{count + 1}", "dataset_id": dataset_id}
        values |= {"manifest": f"versions/{row['digest'][:16]}", "created_by": user.id}
        values["created"] = time.time()
        key = connection.execute(version.insert().values(values)).inserted_primary_key
        assert key is not None
        known, unchanged = public(get(connection, key[0])), False
    action = Action(
        *(request_id, user.id, dataset_id, "version.create"),
        what=f"froze {known['count']:,} tagged images as {known['name']}",
        undoable=False,
    )
    kept = ("id", "name", "digest", "count")
    result = {name: known[name] for name in kept} | {"unchanged": unchanged}
    return changes.record(connection, action, result=result)


def _write(found: Collection, home: Home, digest: str) -> None:
    """Writes the directory of a version, whole or not at all."""
    target = home.versions / digest[:16]
    if target.exists():
        return
    collections.check_classes(found.used_classes())
    partial = pathlib.Path(tempfile.mkdtemp(prefix=".partial-", dir=home.versions))
    try:
        paths = collections.file_paths(found.examples)
        plain = [
            dataclasses.replace(example, tags=tuple(Tag(t.name) for t in example.tags))
            for example in found.examples
        ]
        # Without attributes and texts, which an audit would take for properties of the images.
        rows = manifest.rows_of(dataclasses.replace(found, examples=tuple(plain)), paths)
        kept = ("path", "label", "split")
        with open(partial / MANIFEST, "w", encoding="utf-8") as file:
            for row in rows:
                if not found.multi_label:
                    row["label"] = row["label"][0]
                file.write(collections.dump({key: row[key] for key in kept}) + "\n")
        order = "".join(f"{name}\n" for name in found.used_classes())
        (partial / "classes.txt").write_text(order, encoding="utf-8")
        (partial / COLLECTION).write_text(collections.to_json(found), encoding="utf-8")
        placed = [f"{manifest.IMAGES}/{path}" for path in paths]
        place_pictures(found, placed, partial, "relative")
        try:
            os.rename(partial, target)
        except OSError:
            if not target.exists():  # Another request wrote the same version.
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _details(
    connection: Connection, classes: ClassMap, here: sa.ColumnElement[bool]
) -> dict[tuple[int, int], dict[str, Any]]:
    """Attributes and text of each tag: the reviewer's, else the first that has any."""
    query = sa.select(answer.c.image_id, answer.c.user_id, answer.c.tags, image.c.reviewed_by)
    query = query.join(image, image.c.id == answer.c.image_id).where(here, answer.c.tags != {})
    found: dict[tuple[int, int], dict[str, Any]] = {}
    best: dict[tuple[int, int], bool] = {}
    for image_id, user_id, tags, reviewer in connection.execute(query.order_by(answer.c.user_id)):
        if not any(value for value in tags.values()):
            continue
        for key, value in classes.tags(tags).items():
            place, own = (image_id, int(key)), user_id == reviewer
            has = bool(value.get("attributes") or value.get("text"))
            if has and (place not in found or (own and not best[place])):
                source = _source_of(classes, tags, int(key))
                found[place], best[place] = {**value, "source": source}, own
    return found


def _source_of(classes: ClassMap, tags: dict[str, Any], class_id: int) -> int:
    """The class whose attributes a tag has: the class itself, or one that was merged into it."""
    if str(class_id) in tags:
        return class_id
    return next(int(key) for key in tags if classes.resolve(int(key)) == class_id)


def _tag(classes: ClassMap, class_id: int, details: dict[str, Any]) -> Tag:
    source = classes.rows[details.get("source", class_id)]
    names = {a["id"]: a["name"] for a in source.attributes or ()}
    values = details.get("attributes") or {}
    named = {names[key]: value for key, value in values.items() if key in names}
    return Tag(classes.rows[class_id].name, named, details.get("text") or "")


def _example(home: Home, row: Any, tags: list[Tag]) -> Example:
    return Example(
        name=row.name,
        folder=row.folder,
        tags=tuple(sorted(tags, key=lambda tag: tag.name)),
        split=row.split,
        sha256=row.sha256,
        file=row.path or str(home.picture(row.sha256, row.extension)),
        width=row.width,
        height=row.height,
        comment=row.comment,
    )


def _info(row: Any) -> ClassInfo:
    attributes = tuple(
        Attribute(a["name"], a["kind"], tuple(a.get("options") or ())) for a in row.attributes or ()
    )
    return ClassInfo(row.name, row.colour, row.hotkey, row.description, attributes)


def _named(connection: Connection, dataset_id: int) -> list[Any]:
    classes = read_classes(connection, dataset_id)
    return [classes.rows[c] for c in classes.live]
