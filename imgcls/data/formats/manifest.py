"""Manifests: tables of images and labels in CSV, TSV or JSON lines.

    image,label,split,camera
    cats/1.jpg,cat,train,north
    both/2.jpg,cat|dog,val,south

Columns are recognized by the names below, in any order and case; other columns are kept as
metadata. In JSON lines each object is a row, and labels may be a list.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator

from imgcls.core.errors import ConfigError
from imgcls.data.formats.format import register_format
from imgcls.data.table import problems as kinds
from imgcls.data.table.labels import split_labels
from imgcls.data.table.table import SPLIT_NAMES, Table, split_of

PATHS = ("path", "image", "file", "filename", "file_name", "image_path")
LABELS = ("label", "labels", "class", "tags", "category")


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
        for line, row in read_rows(path, table):
            _add_row(row, f"{os.path.basename(path)} line {line}", table)
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: is not UTF-8 ({e.reason}); save it as UTF-8") from e


def _read_csv(path: str, table: Table) -> Iterator[tuple[int, dict]]:
    """Yields line number and cells, by role (`path`, `label`, `split`, `group`) or column name."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = "\t" if path.lower().endswith(".tsv") else ","
        if delimiter == "," and "," not in first and ";" in first:
            delimiter = ";"  # Spreadsheets write it in locales with a decimal comma.
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            roles = _roles(header)
            _check_roles(roles, f"{path}: line 1", header)
            for row in reader:
                if len(row) == len(header):
                    yield reader.line_num, dict(zip(roles, row, strict=True))
                elif row:
                    line = f"{os.path.basename(path)} line {reader.line_num}"
                    cells = f"{len(row)} cells, not {len(header)}"
                    table.problems.add(kinds.MALFORMED, f"{line} has {cells}")
        except csv.Error as e:
            where = f"{path}: line {reader.line_num}"
            raise ConfigError(f"{where}: {e}; expected cells separated by {delimiter!r}") from e


def _read_json_lines(path: str, table: Table) -> Iterator[tuple[int, dict]]:
    """Yields line number and values, by role or key as in `_read_csv`."""
    roles: dict[str, str] = {}
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
                where = f"{os.path.basename(path)} line {number}"
                table.problems.add(kinds.MALFORMED, f"{where} is not a JSON object")
                continue
            if not roles.keys() >= row.keys():
                keys = list(dict.fromkeys([*roles, *row]))
                roles = dict(zip(keys, _roles(keys), strict=True))
            yield number, {roles[key]: value for key, value in row.items()}
    _check_roles(roles.values(), path, roles)


def _roles(header: list[str]) -> list[str]:
    """The header, with `path`, `label`, `split` and `group` in place of the columns' own names."""
    lower = [name.lower() for name in header]
    names = {"path": PATHS, "label": LABELS, "split": ("split",), "group": ("group",)}
    roles = {_first_index(columns, lower): role for role, columns in names.items()}
    return [roles.get(i, header[i]) for i in range(len(header))]


def _check_roles(roles: Iterable[str], where: str, header: Iterable[str]) -> None:
    for role, columns in (("path", PATHS), ("label", LABELS)):
        if role not in roles:
            raise ConfigError(
                f"{where}: no column for the {role}; it has {', '.join(header) or 'none'}, "
                f"expected one of {', '.join(columns)}"
            )


def _first_index(names: tuple[str, ...], header: list[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _add_row(row: dict, where: str, table: Table) -> None:
    path, split, group = (_text(row.pop(key, None)) for key in ("path", "split", "group"))
    label = row.pop("label", None)
    if isinstance(label, list):
        table.listed = True
        labels = [_text(name) for name in label]
    else:
        labels = split_labels(_text(label), table.separator)
    if not path:
        table.problems.add(kinds.MALFORMED, f"{where} has no path")
    elif split and not split_of(split):
        valid = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
        table.problems.add(kinds.MALFORMED, f"{where} has the unknown split {split!r}")
        table.problems.hints[kinds.MALFORMED] = f"a split is one of {valid}"
    else:
        table.add(path, labels, split_of(split), group or None, row)


def _text(value) -> str:
    """A cell as text: None is empty, and numbers are written as in JSON."""
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else json.dumps(value, ensure_ascii=False)
