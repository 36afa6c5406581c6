"""What a label format is, and the registry of label formats.

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

Reader = Callable[[str, Table], None]


@dataclasses.dataclass(frozen=True)
class LabelFormat:
    """An entry of the registry.

    Attributes:
      read: adds the examples of a label file to a table; paths of images are relative to the label
        file's directory or `data.dir`.
      suffixes: how label files end, in lower case.
      prefix: how the label files among several in a directory begin ('': all with the suffix).
      reads_directory: whether `read` also takes a directory. Otherwise a directory holds one label
        file per split.
    """

    read: Reader
    suffixes: tuple[str, ...] = ()
    prefix: str = ""
    reads_directory: bool = False


FORMATS: Registry[LabelFormat] = Registry(
    "label format", "imgcls.data.formats", describe=lambda entry: Signature(entry.read, 2)
)


def register_format(
    name: str, suffixes: tuple[str, ...] = (), *, prefix: str = "", reads_directory: bool = False
) -> Callable[[Reader], Reader]:
    """Decorator that registers the reader of a label format.

    Args:
      name: of the format, which is a kind of `config.data.source`.
      suffixes, prefix, reads_directory: see `LabelFormat`.
    """

    def register(read: Reader) -> Reader:
        FORMATS.add(name, LabelFormat(read, suffixes, prefix, reads_directory))
        return read

    return register
