"""Protocol of a source of examples, and the registry of sources.

`config.data.source` is `KIND:PATH`. A kind is registered with the function that opens its dataset:

    @register_source("numpy", "FILE.npz")
    def open_numpy(path: str, options: SourceOptions) -> Dataset: ...

Label formats (`imgcls.data.formats`) are kinds of sources as well.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from imgcls.core.registry import Registry, Signature
from imgcls.data.table.problems import Problems


class Source(Protocol):
    """The examples of one split, by index.

    Reading is thread-safe, and sources are picklable for worker processes.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of the labels."""
        ...

    @property
    def multi_label(self) -> bool:
        """Whether labels are multi-hot `[K]`."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the dataset's splits; this source is one of them, or a slice of one."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        """`{'image': encoded bytes or uint8 [..., C], 'label': int or multi-hot uint8 [K]}`.

        `start` and `end`, in seconds, say which part of a video is the example.
        """
        ...

    def labels(self) -> np.ndarray:
        """All labels, int `[N]` or multi-hot uint8 `[N, K]`, without decoding an image."""
        ...

    def name(self, index: int) -> str:
        """Path or record name by which a person finds the example."""
        ...

    def group(self, index: int) -> str | None:
        """Group of the example, such as a patient; a group is never divided between splits."""
        ...

    def metadata(self, index: int) -> dict[str, Any]:
        """Other information about the example, ready for JSON."""
        ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset whose splits are not open yet.

    Attributes:
      splits: names of the splits.
      open: opens a split, or a slice of one such as `train[:10%]`.
      problems: entries that are left out.
      labels_in_memory: whether the labels of a split are known when it is open, so that no record
        is read for them.
    """

    splits: tuple[str, ...]
    open: Callable[[str], Source]
    problems: Problems = dataclasses.field(default_factory=Problems)
    labels_in_memory: bool = False


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """Options of `config.data` that a source may use.

    Attributes:
      data_dir: directory of TFDS datasets (None: TFDS's default), or directory or zip of the images
        that a label file lists (None: the label file's own directory).
      seed: seed of the stratified split, for sources without splits.
      on_error: 'fail' raises an error that names the invalid entries, 'skip' leaves them out.
      multi_label: whether images may have any number of labels; None infers it from the data.
      separator: separator of the labels of one image in a manifest; '' for none.
      label_columns: columns of 0 and 1 of a manifest, one for each class; () recognizes them if
        there is no column with the label.
      question: name of the choices that are the labels in a Label Studio export; None if there is
        one question, or all are joined.
      videos: whether the examples are videos, because the transforms are those of videos; then GIFs
        and folders of frames are videos as well.
      write_classes: whether to write the order of the classes beside the data, if there is no file
        with it yet. Only training does.
    """

    data_dir: str | None = None
    seed: int = 0
    on_error: str = "fail"
    multi_label: bool | None = None
    separator: str = "|"
    question: str | None = None
    label_columns: tuple[str, ...] = ()
    videos: bool = False
    write_classes: bool = False


@dataclasses.dataclass(frozen=True)
class SourceKind:
    """An entry of the registry.

    Attributes:
      open: opens the dataset at a path; the path is '' for kinds without one.
      path: form of the path, for messages: "NAME[:VERSION]"; '' for kinds without a path.
      is_files: whether the path is a user's file or directory.
    """

    open: Callable[[str, SourceOptions], Dataset]
    path: str = "PATH"
    is_files: bool = False


SOURCES: Registry[SourceKind] = Registry(
    "source", "imgcls.data.sources", describe=lambda kind: Signature(kind.open, 2)
)


def register_source(
    name: str, path: str = "PATH", *, is_files: bool = False
) -> Callable[[Callable[[str, SourceOptions], Dataset]], Callable[[str, SourceOptions], Dataset]]:
    """Decorator that registers the function that opens a kind of dataset.

    Args:
      name: name of the kind: `config.data.source = "NAME:PATH"`.
      path: form of the path, for messages; '' for a kind without a path.
      is_files: whether the path is a user's file or directory.
    """

    def register(open_kind: Callable[[str, SourceOptions], Dataset]):
        SOURCES.add(name, SourceKind(open_kind, path, is_files))
        return open_kind

    return register
