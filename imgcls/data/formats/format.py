"""Label formats and their registry.

A format is a function that reads one label file into a `Table`:

    @register_format("yolo", suffixes=(".yaml",))
    def read_yolo(path: str, table: Table) -> None:
        table.add("images/1.jpg", ["cat"])

It is then a source: `config.data.source = "yolo:/path/of/file.yaml"`.
"""

import dataclasses
from collections.abc import Callable

from imgcls.core.registry import Registry, Signature
from imgcls.data.table.table import Table

# `(path, table) -> None`: adds the examples of a label file to the table.
ReadLabels = Callable[[str, Table], None]


@dataclasses.dataclass(frozen=True)
class LabelFormat:
    """An entry of the registry.

    Attributes:
      read: adds the examples of a label file to a table; paths of images are relative to the label
        file's directory or `data.dir`.
      suffixes: file name extensions of label files, in lower case.
      prefix: start of the label files' names, if a directory also has other files of the format.
      reads_directory: whether `read` also takes a directory. Otherwise a directory has one label
        file per split.
    """

    read: ReadLabels
    suffixes: tuple[str, ...] = ()
    prefix: str = ""
    reads_directory: bool = False


FORMATS: Registry[LabelFormat] = Registry(
    "label format", "imgcls.data.formats", describe=lambda entry: Signature(entry.read, 2)
)


def register_format(
    name: str, suffixes: tuple[str, ...] = (), *, prefix: str = "", reads_directory: bool = False
) -> Callable[[ReadLabels], ReadLabels]:
    """Decorator that registers the function that reads a label format.

    Args:
      name: name of the format, which is a kind of `config.data.source`.
      suffixes, prefix, reads_directory: see `LabelFormat`.
    """

    def register(read: ReadLabels) -> ReadLabels:
        FORMATS.add(name, LabelFormat(read, suffixes, prefix, reads_directory))
        return read

    return register
