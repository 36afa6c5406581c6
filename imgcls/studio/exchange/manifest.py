"""Manifests, as `imgcls/data/formats/manifest.py` reads them."""

import csv
import pathlib
from typing import Any

from imgcls.data.table.labels import join_labels
from imgcls.studio.exchange.collection import Collection, Example, dump

IMAGES = "images"
_SEPARATOR = "|"


def write(collection: Collection, paths: list[str], root: pathlib.Path) -> list[str]:
    """Writes `manifest.csv`; attributes and texts are cells of JSON. Returns the images' paths."""
    rows = rows_of(collection, paths)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(root / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns or ["path", "label", "split"], restval="")
        writer.writeheader()
        for row in rows:
            row["label"] = join_labels(row["label"], _SEPARATOR)
            writer.writerow({k: dump(v) if isinstance(v, dict) else v for k, v in row.items()})
    return [row["path"] for row in rows]


def write_jsonl(collection: Collection, paths: list[str], root: pathlib.Path) -> list[str]:
    """Writes `manifest.jsonl`. Returns the images' paths."""
    rows = rows_of(collection, paths)
    with open(root / "manifest.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            if not collection.multi_label:
                row["label"] = row["label"][0] if row["label"] else ""
            file.write(dump(row) + "\n")
    return [row["path"] for row in rows]


def rows_of(collection: Collection, paths: list[str]) -> list[dict[str, Any]]:
    """A row per image: path, label (a list), split, and what else is known of it."""
    pairs = zip(collection.examples, paths, strict=True)
    return [
        {
            "path": f"{IMAGES}/{path}",
            "label": [tag.name for tag in example.tags],
            "split": example.split or "",
            **details_of(example, path),
        }
        for example, path in pairs
    ]


def details_of(example: Example, path: str) -> dict[str, Any]:
    """What the formats have no place for, by key: `attributes`, `text`, `comment`, `sha256`, ..."""
    details: dict[str, Any] = {}
    if example.sha256:
        details["sha256"] = example.sha256
    attributes = {tag.name: tag.attributes for tag in example.tags if tag.attributes}
    texts = {tag.name: tag.text for tag in example.tags if tag.text}
    named = "/".join(filter(None, (example.folder, example.name)))
    others = {"attributes": attributes, "text": texts, "comment": example.comment}
    # The name before it was made one that any file system takes.
    others["uploaded_as"] = named if named != path else ""
    return details | {key: value for key, value in others.items() if value}
