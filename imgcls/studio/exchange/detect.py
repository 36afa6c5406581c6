"""Tells the format of labels by their content."""

import json
import os

from imgcls.core.errors import ConfigError
from imgcls.data.formats.json_file import load_json

EXPECTED = "Darwin JSON 2.0, Label Studio's JSON, or COCO"
TABLES = (".csv", ".tsv", ".jsonl")
# Files in an export that hold no labels.
DESCRIPTIONS = ("classes.json",)


def find_format(file: str) -> str:
    """The label format of a file: 'manifest', 'darwin', 'labelstudio' or 'coco'.

    Raises:
      ConfigError: it is none of them.
    """
    name = os.path.basename(file)
    if file.lower().endswith(TABLES):
        return "manifest"
    if not file.lower().endswith(".json"):
        raise ConfigError(
            f"{name}: is not a file of labels; send a manifest (.csv, .tsv, .jsonl), {EXPECTED}, "
            "or a zip of one of them with its images"
        )
    found = format_of(load_json(file, EXPECTED))
    if found is None:
        raise ConfigError(f"{name}: its content is not known; send {EXPECTED}")
    return found


def format_of(content) -> str | None:
    """The label format of the content of a JSON file; None if it is none."""
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict):
        return None
    if "item" in first or ("image" in first and "annotations" in first and content is first):
        return "darwin"
    if isinstance(content, dict):
        return "coco" if {"images", "annotations", "categories"} <= content.keys() else None
    return "labelstudio"


def find_labels(folder: str) -> tuple[str, str]:
    """Where the labels are in a directory: the format, and the file or directory to read.

    Without a file of labels, the directory has a folder per class: the format is 'folder'.

    Raises:
      ConfigError: there are several, such as a table beside COCO.
    """
    found: dict[str, list[str]] = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        for name in sorted(names):
            kind = _kind_of(os.path.join(parent, name))
            if kind is not None:
                found.setdefault(kind, []).append(os.path.join(parent, name))
    if not found:
        return "folder", folder
    if len(found) > 1:
        listed = ", ".join(os.path.basename(files[0]) for files in found.values())
        raise ConfigError(f"there are labels in {len(found)} formats ({listed}); keep one")
    kind, files = next(iter(found.items()))
    if len(files) == 1 and kind != "darwin":
        return kind, files[0]
    return kind, os.path.commonpath([os.path.dirname(file) for file in files])


def _kind_of(file: str) -> str | None:
    name = os.path.basename(file)
    if name.startswith(".") or name in DESCRIPTIONS:
        return None
    if name.lower().endswith(TABLES):
        return "manifest"
    if not name.lower().endswith(".json"):
        return None
    try:
        with open(file, encoding="utf-8-sig") as opened:
            return format_of(json.load(opened))
    except (OSError, ValueError, RecursionError):
        return None
