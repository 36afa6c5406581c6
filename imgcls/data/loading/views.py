"""Several images per position of the training order: two views, pairs, triplets.

`config.data.views` sets the arrays of a batch:

- `one`: `image`;
- `two`: also `image2`, another view of the same image, which is decoded once;
- `pairs`: also `image2` and `same` int32 `[B]`: 1 if both match, in half of the pairs;
- `triplets`: also `image2`, which matches `image`, and `image3`, which does not.

`config.data.partners` sets which images match: those of one class (`label`), or views of one image
(`instance`), for data without labels. `auto` is `label` for data with more than one class.
"""

import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.sources.source import Source

# Number of images per position.
VIEWS = {"one": 1, "two": 2, "pairs": 2, "triplets": 3}
PARTNERS = ("auto", "label", "instance")


class Partners:
    """Draws examples that match a given one, and examples that do not.

    Args:
      length: number of examples N.
      labels: int `[N]`, or None if every example is its own class.
    """

    def __init__(self, length: int, labels: np.ndarray | None):
        self._length, self._classes = length, None
        if labels is not None:
            order = np.argsort(labels, kind="stable")
            # Start and end of each example's class in that order.
            first = np.searchsorted(labels[order], labels, "left")
            last = np.searchsorted(labels[order], labels, "right")
            self._classes = order, np.stack([first, last], 1)

    def same(self, index: int, rng: np.random.Generator) -> int:
        """Draws another example of the class, uniformly; the example itself if it is alone."""
        if self._classes is None:
            return index
        order, bounds = self._classes
        first, last = bounds[index]
        if last - first == 1:
            return index
        drawn = int(order[first + rng.integers(last - first - 1)])
        return int(order[last - 1]) if drawn == index else drawn

    def other(self, index: int, rng: np.random.Generator) -> int:
        """Draws an example of another class, uniformly over all of them."""
        if self._classes is None:
            drawn = int(rng.integers(self._length - 1))
            return drawn + (drawn >= index)
        order, bounds = self._classes
        first, last = bounds[index]
        drawn = int(rng.integers(self._length - (last - first)))
        return int(order[drawn if drawn < first else drawn + last - first])


def create_partners(views: str, partners: str, source: Source) -> Partners | None:
    """Creates the partners of a source's examples; None if `views` does not need any.

    Raises:
      ConfigError: `partners` is 'label', and the source is multi-label or has only one class.
    """
    if views not in ("pairs", "triplets"):
        return None
    if len(source) < 2:
        raise ConfigError(f"config.data.views={views!r}: needs at least two images")
    usable = not source.multi_label and len(source.class_names) > 1
    if partners == "instance" or (partners == "auto" and not usable):
        return Partners(len(source), None)
    if not usable:
        reason = "is multi-label" if source.multi_label else "has only one class"
        raise ConfigError(
            f"config.data.partners='label': the data {reason}; write 'instance' to pair views of "
            "one image"
        )
    labels = np.asarray(source.labels())
    if (labels == labels[0]).all():
        raise ConfigError(
            "config.data.partners='label': all images of the split are of one class; write "
            "'instance' to pair views of one image"
        )
    return Partners(len(source), labels)
