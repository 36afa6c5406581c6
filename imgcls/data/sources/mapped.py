"""A source with the classes of a model, matched by name."""

from typing import Any

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.sources.source import Source
from imgcls.data.sources.view import View
from imgcls.data.table.names import normalize


class MappedSource(View):
    """A source whose labels are numbered by other class names.

    Args:
      source: source to read from.
      class_names: names of the K classes.
      numbers: number in `class_names` of each class of `source`; -1 for classes without examples.
    """

    def __init__(self, source: Source, class_names: tuple[str, ...], numbers: tuple[int, ...]):
        super().__init__(source)
        self._class_names, self._numbers = class_names, np.array(numbers, int)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._class_names

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        example = self.source[index]
        return {**example, "label": self._map(np.asarray(example["label"])[None])[0]}

    def labels(self) -> np.ndarray:
        return self._map(self.source.labels())

    def _map(self, labels: np.ndarray) -> np.ndarray:
        """Renumbers labels, int `[N]` or multi-hot `[N, K']`."""
        numbers = self._numbers
        if not self.multi_label:
            return numbers[labels]
        mapped = np.zeros((len(labels), len(self.class_names)), labels.dtype)
        mapped[:, numbers[numbers >= 0]] = labels[:, numbers >= 0]
        return mapped


def map_classes(source: Source, class_names: tuple[str, ...], where: str) -> Source:
    """Returns a source with the classes of a model, matched by name.

    The source may lack classes, and have them in another order.

    Args:
      source: examples of a split.
      class_names: class names of the model.
      where: the split, for messages.

    Raises:
      ConfigError: an example has a class that the model does not have.
    """
    names, expected = tuple(source.class_names), tuple(class_names)
    if names == expected:
        return source
    # The exact name comes first: older checkpoints may have a name in two Unicode forms.
    index = {normalize(name): i for i, name in enumerate(expected)}
    index |= {name: i for i, name in enumerate(expected)}
    numbers = tuple(index.get(name, index.get(normalize(name), -1)) for name in names)
    unknown = np.flatnonzero(np.array(numbers, int) < 0)
    if len(unknown):
        _check_unused(source, unknown, expected, where)
    return MappedSource(source, expected, numbers)


def _check_unused(
    source: Source, unknown: np.ndarray, expected: tuple[str, ...], where: str
) -> None:
    """Raises a ConfigError if an example has one of the classes `unknown`, int `[U]`."""
    labels = source.labels()
    has_unknown = labels[:, unknown] > 0 if source.multi_label else labels[:, None] == unknown
    used = [source.class_names[c] for c in unknown[has_unknown.any(0)]]
    if used:
        raise ConfigError(
            f"{where}: {has_unknown.any(1).sum():,} of {len(labels):,} examples have classes that "
            f"are not in the model ({_list_names(used)}); leave these out, or rename them to the "
            f"classes of the model: {_list_names(expected)}"
        )


def _list_names(names) -> str:
    return ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
