"""Manifests: tables of images and labels in CSV, TSV or JSON lines.

    image,label,split,camera
    cats/1.jpg,cat,train,north
    both/2.jpg,cat|dog,val,south

Columns are recognized by the names below, in any order and case; other columns are kept as
metadata. In JSON lines each object is a row, and labels may be a list. In place of a label there
may be a column of 0 and 1 for each class: `imgcls/data/formats/one_hot.py`. The columns `start` and
`end` of videos are the seconds of a part.
"""

import csv
import json
import math
import os
from collections.abc import Iterable
from typing import Literal, NamedTuple

from imgcls.core.errors import ConfigError
from imgcls.data.formats import one_hot
from imgcls.data.formats.format import register_format
from imgcls.data.table import problems as kinds
from imgcls.data.table.labels import split_labels
from imgcls.data.table.table import SPLIT_NAMES, Segment, Table, split_of

PATHS = ("path", "image", "file", "filename", "file_name", "image_path")
LABELS = ("label", "labels", "class", "tags", "category")
_TIMES = ("start", "end")


class _Manifest(NamedTuple):
    """A manifest as read from its file.

    Attributes:
      where: place of the header, for messages.
      header: names of the columns.
      roles: the same with `path`, `label`, `split` and `group` in place of the columns' own names.
      rows: line number and cells of each row, by role or column name; or what is wrong with it.
    """

    where: str
    header: list[str]
    roles: list[str]
    rows: one_hot.Rows


@register_format("manifest", (".csv", ".tsv", ".jsonl"))
def read_manifest(path: str, table: Table) -> None:
    """Adds the rows of a manifest to a table.

    Raises:
      ConfigError: a column is missing, the file is not UTF-8, or a line is not JSON.
    """
    if not path.lower().endswith((".csv", ".tsv", ".jsonl")):
        raise ConfigError(f"{table.spec}: a manifest ends in .csv, .tsv or .jsonl")
    read_rows = _read_json_lines if path.lower().endswith(".jsonl") else _read_csv
    try:
        manifest = read_rows(path, table)
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: is not UTF-8 ({e.reason}); save it as UTF-8") from e
    rows, name = manifest.rows, os.path.basename(path)
    if table.label_columns or "label" not in manifest.roles:
        known = ("path", "split", "group", *(_TIMES if table.videos else ()))
        others = [column for column in manifest.roles if column not in known]
        columns = one_hot.find_columns(rows, others, table)
        if not columns:
            raise _missing("label", LABELS, manifest.where, manifest.header)
        rows = one_hot.read_labels(rows, columns, table)
    for line, row in rows:
        if isinstance(row, str):
            table.problems.add(kinds.MALFORMED, f"{name} line {line} {row}")
        else:
            _add_row(row, f"{name} line {line}", table)


def _read_csv(path: str, table: Table) -> _Manifest:
    with open(path, encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = "\t" if path.lower().endswith(".tsv") else ","
        if delimiter == "," and "," not in first and ";" in first:
            delimiter = ";"  # Spreadsheets write it in locales with a decimal comma.
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            roles = _roles(header, table)
            manifest = _Manifest(f"{path}: line 1", header, roles, [])
            if "path" not in roles:
                raise _missing("path", PATHS, manifest.where, header)
            for row in reader:
                if len(row) == len(header):
                    manifest.rows.append((reader.line_num, dict(zip(roles, row, strict=True))))
                elif row:
                    fault = f"has {len(row)} cells, not {len(header)}"
                    manifest.rows.append((reader.line_num, fault))
        except csv.Error as e:
            where = f"{path}: line {reader.line_num}"
            raise ConfigError(f"{where}: {e}; expected cells separated by {delimiter!r}") from e
    return manifest


def _read_json_lines(path: str, table: Table) -> _Manifest:
    roles: dict[str, str] = {}
    rows: one_hot.Rows = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as e:
                raise ConfigError(
                    f"{path}: line {number}, column {e.colno}: {e.msg}; expected one JSON object "
                    "per line"
                ) from e
            if not isinstance(row, dict):
                rows.append((number, "is not a JSON object"))
                continue
            if not roles.keys() >= row.keys():
                keys = list(dict.fromkeys([*roles, *row]))
                roles = dict(zip(keys, _roles(keys, table), strict=True))
            rows.append((number, {roles[key]: value for key, value in row.items()}))
    if "path" not in roles.values():
        raise _missing("path", PATHS, path, roles)
    return _Manifest(path, list(roles), list(roles.values()), rows)


def _roles(header: list[str], table: Table) -> list[str]:
    """The header, with `path`, `label`, `split` and `group` in place of the columns' own names.

    If there are declared label columns, no other column is the label.
    """
    declared = table.label_columns
    lower = ["" if name in declared else name.lower() for name in header]
    names = {"path": PATHS, "label": LABELS, "split": ("split",), "group": ("group",)}
    if declared:
        del names["label"]
    if table.videos:
        names |= {name: (name,) for name in _TIMES}
    roles = {_first_index(columns, lower): role for role, columns in names.items()}
    return [roles.get(i, header[i]) for i in range(len(header))]


def _missing(role: str, columns: Iterable[str], where: str, header: Iterable[str]) -> ConfigError:
    otherwise = ", or a column of 0 and 1 for each class" if role == "label" else ""
    return ConfigError(
        f"{where}: no column for the {role}; it has {', '.join(header) or 'none'}, expected one of "
        f"{', '.join(columns)}{otherwise}"
    )


def _first_index(names: tuple[str, ...], header: list[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _add_row(row: dict, where: str, table: Table) -> None:
    path, split, group = (_text(row.pop(key, None)) for key in ("path", "split", "group"))
    times = [_text(row.pop(key, None)) for key in _TIMES] if table.videos else ["", ""]
    label = row.pop("label", None)
    if isinstance(label, list):
        table.listed = True
        labels = [_text(name) for name in label]
    elif isinstance(label, tuple):  # one-hot columns
        labels = list(label)
    else:
        labels = split_labels(_text(label), table.separator)
    if not path:
        table.problems.add(kinds.MALFORMED, f"{where} has no path")
    elif split and not split_of(split):
        valid = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
        table.problems.add(kinds.MALFORMED, f"{where} has the unknown split {split!r}")
        table.problems.hints[kinds.MALFORMED] = f"a split is one of {valid}"
    elif (segment := _read_segment(*times)) is False:
        fault = f"has start={times[0]!r} and end={times[1]!r}"
        table.problems.add(kinds.MALFORMED, f"{where} {fault}")
        table.problems.hints[kinds.MALFORMED] = "write seconds, with the start before the end"
    else:
        table.add(path, labels, split_of(split), group or None, row, segment)


def _read_segment(start: str, end: str) -> Segment | Literal[False] | None:
    """The part of a video between two times; None for all of it, False for invalid times."""
    if not start and not end:
        return None
    try:
        segment = Segment(float(start) if start else None, float(end) if end else None)
    except ValueError:
        return False
    first = 0 if segment.start is None else segment.start
    last = math.inf if segment.end is None else segment.end
    return segment if 0 <= first < last and first < math.inf else False


def _text(value) -> str:
    """A cell as text: None is empty, and numbers are written as in JSON."""
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else json.dumps(value, ensure_ascii=False)
