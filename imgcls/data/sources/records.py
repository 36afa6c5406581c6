"""A dataset in ArrayRecord files, as written by `python -m imgcls.convert`.

    manifest.json                         classes, splits and their shards
    classes.txt                           class names, for people
    train.jsonl                           one object per example: name, labels, group, metadata
    train-00000-of-00004.array_record     encoded images, in the same order

A record is an image file, byte for byte. Labels and metadata are stored beside the records, so that
labels are read without reading images.
"""

import json
import os
from collections.abc import Iterator

from array_record.python.array_record_data_source import ArrayRecordDataSource

from imgcls.core.errors import ConfigError, DataError, one_line
from imgcls.data.formats.json_file import load_json
from imgcls.data.sources.source import Dataset, SourceOptions, register_source
from imgcls.data.sources.table_source import split_table
from imgcls.data.table.check import CheckedTable
from imgcls.data.table.names import normalize
from imgcls.data.table.problems import Problems
from imgcls.data.table.table import Item, Segment

VERSION = 1
MANIFEST = "manifest.json"
_CONVERT_AGAIN = "convert the dataset again"


class Records:
    """Images by name, from the shards of all splits."""

    def __init__(self, shards: list[str], names: list[str], spec: str):
        self._spec = spec
        self._positions = {name: i for i, name in enumerate(names)}
        try:
            self._records = ArrayRecordDataSource(shards) if shards else []
        except (OSError, ValueError, RuntimeError) as e:
            raise ConfigError(f"{spec}: can't be read ({one_line(e)}); {_CONVERT_AGAIN}") from e
        if not len(self._records) == len(self._positions) == len(names):
            raise ConfigError(
                f"{spec}: its shards hold {len(self._records):,} images and its tables "
                f"{len(self._positions):,} names; {_CONVERT_AGAIN}"
            )

    def read(self, path: str) -> bytes:
        try:
            return self._records[self._positions[path]]
        except (OSError, ValueError, RuntimeError, IndexError) as e:
            raise DataError(f"{self._spec}: {path}: can't be read: {one_line(e)}") from e

    def name(self, path: str) -> str:
        return path


@register_source("records", is_files=True)
def open_records(path: str, options: SourceOptions) -> Dataset:
    """Opens a dataset written by `python -m imgcls.convert`.

    Raises:
      ConfigError: the dataset is missing, incomplete or of another version.
    """
    spec, path = f"records:{path}", os.path.expanduser(path)
    manifest_file = os.path.join(path, MANIFEST)
    if not os.path.isfile(manifest_file):
        raise ConfigError(
            f"{spec}: has no {MANIFEST}; write it with `python -m imgcls.convert --from=SOURCE "
            f"--to={path}`"
        )
    manifest = load_json(manifest_file, "a file written by python -m imgcls.convert")
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise ConfigError(f"{spec}: {MANIFEST} is not version {VERSION}; {_CONVERT_AGAIN}")
    try:
        shards, items = [], []
        for split, entry in manifest["splits"].items():
            shards += [os.path.join(path, _check_file_name(shard)) for shard in entry["shards"]]
            items += _read_items(os.path.join(path, _check_file_name(f"{split}.jsonl")), split)
        names, multi_label = _check_names(manifest["class_names"]), bool(manifest["multi_label"])
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ConfigError(f"{spec}: {MANIFEST} is broken ({one_line(e)}); {_CONVERT_AGAIN}") from e
    missing = next((shard for shard in shards if not os.path.isfile(shard)), None)
    if missing:
        raise ConfigError(f"{spec}: {os.path.basename(missing)} is missing; {_CONVERT_AGAIN}")
    records = Records(shards, [item.path for item in items], spec)
    unknown = {label for item in items for label in item.labels}.difference(names)
    if unknown or not (multi_label or all(len(item.labels) == 1 for item in items)):
        raise ConfigError(f"{spec}: has labels that {MANIFEST} does not allow; {_CONVERT_AGAIN}")
    splits = tuple(manifest["splits"])
    table = CheckedTable(items, names, multi_label, Problems())
    return split_table(table, records, seed=options.seed, spec=spec, splits=splits)


def _check_file_name(name: str) -> str:
    """Returns `name` if it names a file in the manifest's own directory."""
    if os.path.basename(name) != name:
        raise ValueError(f"{name!r} is not a file in its directory")
    return name


def _check_names(value) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("expected a list of names")
    return tuple(map(normalize, value))


def _seconds(value) -> float | None:
    return None if value is None else float(value)


def _read_items(path: str, split: str) -> Iterator[Item]:
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                group, metadata = row.get("group"), row.get("metadata", {})
                texts = (row["name"], split, "" if group is None else group)
                if not all(isinstance(text, str) for text in texts):
                    raise ValueError("a name is not a string")
                labels = _check_names(row["labels"])
                segment = Segment(*map(_seconds, row["segment"])) if "segment" in row else None
                yield Item(row["name"], labels, split, group, metadata, segment)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ConfigError(f"{path}: can't be read ({one_line(e)}); {_CONVERT_AGAIN}") from e
