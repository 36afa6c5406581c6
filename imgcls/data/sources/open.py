"""Opens the dataset of `config.data.source`."""

import functools
import glob
import os
import zipfile

from imgcls.core.errors import ConfigError, did_you_mean
from imgcls.data.formats.format import FORMATS
from imgcls.data.formats.read import read_table
from imgcls.data.sources.source import SOURCES, Dataset, Source, SourceKind, SourceOptions
from imgcls.data.sources.table_source import open_table


def create_source(spec: str, split: str, **options) -> Source:
    """Opens one split of a source.

    Args:
      spec: kind and path of the source, `KIND:PATH`.
      split: name of the split with an optional slice in examples or percent.
      options: fields of `SourceOptions`.

    Raises:
      ConfigError: unknown kind, missing data, unknown or empty split.
    """
    return open_examples(open_dataset(spec, **options), spec, split)


def open_examples(data: Dataset, spec: str, split: str) -> Source:
    """Opens one split of an open dataset.

    Raises:
      ConfigError: unknown or empty split.
    """
    source = data.open(split)
    if not len(source):
        raise ConfigError(f"config.data.source={spec}, split {split!r}: holds no examples")
    return source


def open_dataset(spec: str, **options) -> Dataset:
    """Opens a dataset and checks it.

    Args:
      spec: kind and path of the source, `KIND:PATH`.
      options: fields of `SourceOptions`.

    Raises:
      ConfigError: unknown kind, missing data, or invalid entries with `on_error='fail'`.
    """
    name, _, path = complete_spec(spec).partition(":")
    kind = find_kind(name)
    if kind is None and os.path.isabs(os.path.expanduser(spec)):
        found = os.path.exists(os.path.expanduser(spec))
        raise ConfigError(
            f"config.data.source={spec!r}: "
            + ("write its format, such as coco:PATH" if found else "no such file or directory")
        )
    if kind is None or bool(path) != bool(kind.path):
        known = list_kinds()
        valid = ", ".join(f"{n}:{k.path}" if k.path else n for n, k in known.items())
        hint = did_you_mean(name, known) if kind is None else ""
        raise ConfigError(f"config.data.source={spec!r}: unknown{hint}; write one of {valid}")
    return kind.open(path, SourceOptions(**options))


def complete_spec(spec: str) -> str:
    """Adds the kind to a path without one, where it is plain; returns any other spec unchanged.

    A directory or zip is `folder:`, or `records:` with record files; a table is `manifest:`.
    """
    path, kind = os.path.expanduser(spec), find_kind(spec.partition(":")[0])
    if kind and (":" in spec or not kind.path) or not os.path.exists(path):
        return spec
    if os.path.isdir(path):
        has_records = glob.glob(os.path.join(glob.escape(path), "*.array_record"))
        return f"records:{spec}" if has_records else f"folder:{spec}"
    if zipfile.is_zipfile(path):
        return f"folder:{spec}"
    is_table = path.lower().endswith(FORMATS["manifest"].suffixes)
    return f"manifest:{spec}" if is_table else spec


def list_kinds() -> dict[str, SourceKind]:
    """Returns all kinds of sources by name: those in `SOURCES`, and the label formats."""
    return {**SOURCES, **{name: _as_kind(name) for name in FORMATS}}


def find_kind(name: str) -> SourceKind | None:
    """Returns the kind of that name, or None."""
    if name in SOURCES:
        return SOURCES[name]
    return _as_kind(name) if name in FORMATS else None


def _as_kind(name: str) -> SourceKind:
    """Wraps a label format as a kind of source."""
    return SourceKind(functools.partial(_open_format, name), is_files=True)


def _open_format(name: str, path: str, options: SourceOptions) -> Dataset:
    return open_table(*read_table(name, path, options), options)
