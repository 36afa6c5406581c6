"""Darwin JSON 2.0 of V7, as `imgcls/data/formats/darwin.py` reads it: one file per image.

A class's attribute named `attributes`, of several choices, is Darwin's attributes; the others are
its properties. The split is a property of the item.
"""

import json
import os
import pathlib
import uuid
from typing import Any

from imgcls.data.decode.containers import VIDEO_EXTENSIONS
from imgcls.studio.exchange.collection import Attribute, ClassInfo, Collection, Example, Tag
from imgcls.studio.exchange.manifest import IMAGES, details_of

FOLDER = "annotations"
# Describes the classes and their properties, as in V7's releases.
METADATA = os.path.join(".v7", "metadata.json")
ATTRIBUTES = "attributes"
_YES_NO = ("yes", "no")


def write(collection: Collection, paths: list[str], root: pathlib.Path) -> list[str]:
    """Writes `annotations/PATH.json` for each image, and `.v7/metadata.json`. Returns the paths."""
    for example, path in zip(collection.examples, paths, strict=True):
        file = root / FOLDER / f"{path}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        content = item_of(collection, example, path)
        file.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    file = root / FOLDER / METADATA
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "1.0", "classes": [_describe(info) for info in collection.classes]}
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return [f"{IMAGES}/{path}" for path in paths]


def item_of(collection: Collection, example: Example, path: str) -> dict[str, Any]:
    """The content of an image's file."""
    folder, name = os.path.split(path)
    kind = "video" if name.lower().endswith(VIDEO_EXTENSIONS) else "image"
    slot = {"type": kind, "slot_name": "0", "source_files": [{"file_name": name}]}
    if example.width and example.height:
        slot |= {"width": example.width, "height": example.height}
    item = {"name": name, "path": f"/{folder}", "slots": [slot]}
    item["source_info"] = {"dataset": {"name": collection.name, "slug": collection.name}}
    details = details_of(example, path)
    details = {k: details[k] for k in ("sha256", "comment", "uploaded_as") if k in details}
    if example.split:
        details["split"] = example.split
    properties = [{"name": key, "value": value} for key, value in sorted(details.items())]
    kinds = {info.name: {a.name: a for a in info.attributes} for info in collection.classes}
    tags = [_annotation(tag, kinds.get(tag.name, {}), example, path) for tag in example.tags]
    return {"version": "2.0", "item": item, "annotations": tags, "properties": properties}


def read_properties(entries: Any, known: dict[str, Attribute]) -> dict[str, Any]:
    """The attributes in an annotation's properties; several entries of one name are choices.

    Args:
      entries: `[{"name": ..., "value": ...}]`; others are passed over.
      known: the attributes of the class, if they are described.
    """
    values: dict[str, list] = {}
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            if entry.get("value") is not None:
                values.setdefault(entry["name"], []).append(entry["value"])
    return {name: _from_darwin(found, known.get(name)) for name, found in values.items()}


def read_class(row: dict[str, Any]) -> ClassInfo:
    """A class as `.v7/metadata.json` describes it."""
    attributes = []
    for entry in row.get("properties") or ():
        values = (value.get("value") for value in entry.get("property_values") or ())
        options = tuple(value for value in values if isinstance(value, str))
        kind = {"multi_select": "choices", "text": "text"}.get(entry.get("type"), "choice")
        if kind == "choice" and options == _YES_NO:
            kind, options = "yes_no", ()
        attributes.append(Attribute(str(entry.get("name")), entry.get("kind") or kind, options))
    if row.get(ATTRIBUTES):
        attributes.append(Attribute(ATTRIBUTES, "choices", tuple(map(str, row[ATTRIBUTES]))))
    description = row.get("description") or ""
    colour = row.get("color") or ""
    colour = colour if colour.startswith("#") and len(colour) == 7 else ""
    return ClassInfo(str(row.get("name")), colour, None, description, tuple(attributes))


def _annotation(tag: Tag, known: dict[str, Attribute], example: Example, path: str) -> dict:
    number = uuid.uuid5(uuid.NAMESPACE_URL, f"{example.sha256 or path}/{tag.name}")
    annotation = {"id": str(number), "name": tag.name, "slot_names": ["0"], "tag": {}}
    attributes = dict(tag.attributes)
    if isinstance(attributes.get(ATTRIBUTES), (list, tuple)):
        annotation[ATTRIBUTES] = list(attributes.pop(ATTRIBUTES))
    properties = [
        {"name": name, "value": text}
        for name, value in sorted(attributes.items())
        for text in _to_darwin(value)
    ]
    if properties:
        annotation["properties"] = properties
    if tag.text:
        annotation["text"] = {"text": tag.text}
    return annotation


def _to_darwin(value: Any) -> list[str]:
    if isinstance(value, bool):
        return [_YES_NO[0] if value else _YES_NO[1]]
    if isinstance(value, (list, tuple)):
        return [str(v) for v in value]
    return [value if isinstance(value, str) else json.dumps(value)]


def _from_darwin(values: list, attribute: Attribute | None) -> Any:
    if attribute is None:
        return values[0] if len(values) == 1 else values
    if attribute.kind == "choices":
        return values
    if attribute.kind == "yes_no" and values[0] in _YES_NO:
        return values[0] == _YES_NO[0]
    if attribute.kind == "number":
        try:
            return json.loads(values[0])
        except (TypeError, ValueError):
            return values[0]
    return values[0]


def _describe(info: ClassInfo) -> dict[str, Any]:
    described: dict[str, Any] = {"name": info.name, "type": "tag"}
    described["description"] = info.description
    if info.colour:
        described["color"] = info.colour
    types = {"choice": "single_select", "choices": "multi_select", "yes_no": "single_select"}
    properties = []
    for attribute in info.attributes:
        if attribute.name == ATTRIBUTES and attribute.kind == "choices":
            described[ATTRIBUTES] = list(attribute.options)
            continue
        options = _YES_NO if attribute.kind == "yes_no" else attribute.options
        entry: dict[str, Any] = {"name": attribute.name}
        entry["type"] = types.get(attribute.kind, "text")
        entry |= {"required": False, "kind": attribute.kind}
        entry["property_values"] = [{"value": value, "type": "string"} for value in options]
        properties.append(entry)
    return described | {"properties": properties}
