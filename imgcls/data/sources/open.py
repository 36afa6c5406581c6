"""Opens the source that `config.data.source` names."""

import functools

from imgcls.core.errors import ConfigError
from imgcls.data.sources.source import DataSet, Source

FILE_KINDS = ("folder", "manifest", "darwin", "labelstudio", "coco")


def create_source(spec: str, split: str, **options) -> Source:
    """The examples of one split of the source that `spec` names.

    Args:
      spec: a kind and what it reads, as above.
      split: a split's name with an optional slice by number or percent.
      options: of `open_data_set`.

    Raises:
      ConfigError: unknown kind, missing data, a split that is not there, or an empty one.
    """
    source = open_data_set(spec, **options).open(split)
    if not len(source):
        raise ConfigError(f"config.data.source={spec}, split {split!r}: holds no examples")
    return source


def open_data_set(
    spec: str,
    *,
    data_dir: str | None = None,
    seed: int = 0,
    on_error: str = "fail",
    multi_label: bool | None = None,
    separator: str = "|",
) -> DataSet:
    """The data set that `spec` names, checked.

    Args:
      spec: a kind and what it reads, as above.
      data_dir: where TFDS data sets live (`None`: TFDS's own default), or the directory or zip of
        the pictures that a file names (`None`: the file's own directory).
      seed: of the stratified split, for a source that comes without splits of its own.
      on_error: entries that are wrong: 'fail' names them, 'skip' leaves them out.
      multi_label: any number of labels each; None is as the data says. Of folders and files.
      separator: between the labels of one picture in a manifest; '' divides nothing.

    Raises:
      ConfigError: unknown kind, missing data, or entries that are wrong with `on_error='fail'`.
    """
    kind, _, path = spec.partition(":")
    if kind == "digits" and not path:
        from imgcls.data.sources.digits import DigitsSource

        return DataSet(DigitsSource.splits, functools.partial(DigitsSource, seed=seed))
    if kind == "tfds" and path:
        from imgcls.data.sources.tfds import open_tfds

        return open_tfds(path, data_dir)
    if kind == "records" and path:
        from imgcls.data.sources.records import open_records

        return open_records(path, seed)
    if kind in FILE_KINDS and path:
        from imgcls.data.formats.read import read_table
        from imgcls.data.sources.table_source import divide
        from imgcls.data.table.check import check_table

        table, files = read_table(kind, path, data_dir, multi_label, separator)
        items, *about = check_table(table, files, on_error)
        return divide(items, files, *about, seed=seed, said=table.said)
    raise ConfigError(
        f"config.data.source={spec!r}: unknown; write digits, folder:PATH or tfds:NAME[:VERSION], "
        "or manifest:, darwin:, labelstudio:, coco: or records: with a PATH"
    )
