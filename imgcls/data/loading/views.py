"""Several pictures at one position of the training order: two views, pairs, triplets.

`config.data.views` says which; a batch then holds

- `one`: `image`;
- `two`: also `image2`, another view of the same picture, from one decoding;
- `pairs`: also `image2` and `same` int32 `[B]`: 1 where both belong together, half of the times;
- `triplets`: also `image2`, which belongs with `image`, and `image3`, which does not.

`config.data.partners` says who belongs together: pictures of one class (`label`), or views of one
picture (`instance`), for data without labels. `auto` is `label` where there is more than one class.
"""

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.sources.source import Source

# How many pictures each kind puts side by side.
VIEWS = {"one": 1, "two": 2, "pairs": 2, "triplets": 3}
PARTNERS = ("auto", "label", "instance")


class Partners:
    """Draws the examples that belong with a given one, and those that don't.

    Args:
      length: number of examples N.
      labels: int `[N]`, or None where every example is its own class.
    """

    def __init__(self, length: int, labels: np.ndarray | None):
        self._length, self._classes = length, None
        if labels is not None:
            order = np.argsort(labels, kind="stable")
            # For each example, where its class begins and ends in that order.
            first = np.searchsorted(labels[order], labels, "left")
            last = np.searchsorted(labels[order], labels, "right")
            self._classes = order, np.stack([first, last], 1)

    def same(self, index: int, rng: np.random.Generator) -> int:
        """Another example of the class, uniform; the example itself where it has no other."""
        if self._classes is None:
            return index
        order, bounds = self._classes
        first, last = bounds[index]
        if last - first == 1:
            return index
        drawn = int(order[first + rng.integers(last - first - 1)])
        return int(order[last - 1]) if drawn == index else drawn

    def other(self, index: int, rng: np.random.Generator) -> int:
        """An example of another class, uniform over all of them."""
        if self._classes is None:
            drawn = int(rng.integers(self._length - 1))
            return drawn + (drawn >= index)
        order, bounds = self._classes
        first, last = bounds[index]
        drawn = int(rng.integers(self._length - (last - first)))
        return int(order[drawn if drawn < first else drawn + last - first])


def create_partners(views: str, partners: str, source: Source) -> Partners | None:
    """Who belongs together in `source`; None where `views` needs nobody else.

    Raises:
      ConfigError: labels that can't tell.
    """
    if views not in ("pairs", "triplets"):
        return None
    if len(source) < 2:
        raise ConfigError(f"config.data.views={views!r}: takes at least two pictures")
    usable = not source.multi_label and len(source.class_names) > 1
    if partners == "instance" or (partners == "auto" and not usable):
        return Partners(len(source), None)
    if not usable:
        what = "multi-label" if source.multi_label else "of one class only"
        raise ConfigError(
            f"config.data.partners='label': the data is {what}; write 'instance' to take views of "
            "one picture as a pair"
        )
    labels = np.asarray(source.labels())
    if (labels == labels[0]).all():
        raise ConfigError(
            "config.data.partners='label': all pictures of the split are of one class; write "
            "'instance' to take views of one picture as a pair"
        )
    return Partners(len(source), labels)
