"""A data set in ArrayRecord files, as `python -m imgcls.convert` writes it.

    manifest.json                         classes, splits and their shards
    classes.txt                           the class names, for people
    train.jsonl                           an object for each example: name, labels, group, metadata
    train-00000-of-00004.array_record     the encoded pictures, in the same order

A record is a picture's file, byte for byte; what is known of it lies beside, so that labels are
read without reading pictures.
"""

import json
import os
from collections.abc import Iterator

from array_record.python.array_record_data_source import ArrayRecordDataSource

from imgcls.core.errors import ConfigError, DataError, one_line
from imgcls.data.formats.json_file import load_json
from imgcls.data.sources.source import Dataset, SourceOptions, register_source
from imgcls.data.sources.table_source import divide
from imgcls.data.table.check import CheckedTable
from imgcls.data.table.problems import Problems
from imgcls.data.table.table import Item

VERSION = 1
MANIFEST = "manifest.json"
AGAIN = "convert the data set anew"


class Records:
    """Pictures by name, from the shards of all splits."""

    def __init__(self, shards: list[str], names: list[str], spec: str):
        self._spec = spec
        self._positions = {name: i for i, name in enumerate(names)}
        try:
            self._records = ArrayRecordDataSource(shards) if shards else []
        except (OSError, ValueError, RuntimeError) as e:
            raise ConfigError(f"{spec}: can't be read ({one_line(e)}); {AGAIN}") from e
        if not len(self._records) == len(self._positions) == len(names):
            raise ConfigError(
                f"{spec}: its shards hold {len(self._records):,} pictures and its tables "
                f"{len(self._positions):,} names; {AGAIN}"
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
    """The data set in a directory that `python -m imgcls.convert` wrote.

    Raises:
      ConfigError: there is none, it is incomplete, or of a later version.
    """
    spec, path = f"records:{path}", os.path.expanduser(path)
    place = os.path.join(path, MANIFEST)
    if not os.path.isfile(place):
        raise ConfigError(
            f"{spec}: holds no {MANIFEST}; write it with `python -m imgcls.convert --from=SOURCE "
            f"--to={path}`"
        )
    manifest = load_json(place, "what python -m imgcls.convert writes")
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise ConfigError(f"{spec}: {MANIFEST} is not of version {VERSION}; {AGAIN}")
    try:
        shards, items = [], []
        for split, about in manifest["splits"].items():
            shards += [os.path.join(path, _inside(shard)) for shard in about["shards"]]
            items += _read_items(os.path.join(path, _inside(f"{split}.jsonl")), split)
        names, multi_label = _names(manifest["class_names"]), bool(manifest["multi_label"])
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ConfigError(f"{spec}: {MANIFEST} is broken ({one_line(e)}); {AGAIN}") from e
    missing = next((shard for shard in shards if not os.path.isfile(shard)), None)
    if missing:
        raise ConfigError(f"{spec}: {os.path.basename(missing)} is missing; {AGAIN}")
    records = Records(shards, [item.path for item in items], spec)
    unknown = {label for item in items for label in item.labels}.difference(names)
    if unknown or not (multi_label or all(len(item.labels) == 1 for item in items)):
        raise ConfigError(f"{spec}: has labels that {MANIFEST} does not allow; {AGAIN}")
    splits = tuple(manifest["splits"])
    table = CheckedTable(items, names, multi_label, Problems())
    return divide(table, records, seed=options.seed, spec=spec, splits=splits)


def _inside(name: str) -> str:
    """The name of a file that lies beside the manifest, as all do."""
    if os.path.basename(name) != name:
        raise ValueError(f"{name!r} is no file beside it")
    return name


def _names(value) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("no list of names")
    return tuple(value)


def _read_items(path: str, split: str) -> Iterator[Item]:
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                group, metadata = row.get("group"), row.get("metadata", {})
                known = (row["name"], split, "" if group is None else group)
                if not all(isinstance(each, str) for each in known):
                    raise ValueError("a name is no text")
                yield Item(row["name"], _names(row["labels"]), split, group, metadata)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ConfigError(f"{path}: can't be read ({one_line(e)}); {AGAIN}") from e
