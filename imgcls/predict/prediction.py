"""Prediction of a model for one image."""

import dataclasses
import os

import numpy as np

from imgcls.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """Prediction of a model for one image.

    Attributes:
      path: path of the image file; None if the image was given as bytes, a PIL image or an array.
      labels: predicted classes, most probable first: the most probable class or, for a multi-label
        model, all classes that reach their thresholds. Empty if no class reaches its threshold.
      scores: probabilities of the `top_k` most probable classes, best first.
      probabilities: probabilities of all classes, float32 `[K]`.
      overlay: heat map over the image, uint8 `[H, W, 3]`, if one was requested; of a volume over
        three slices and the maximum along D, and of a clip over four frames, see `slices`.
      heat: the heat map itself, float32 `[H, W]` or `[D, H, W]`, 0 to 1.
      start, end: of a window of a video, in seconds since its first frame; None of other inputs.
    """

    path: str | None
    labels: list[str]
    scores: dict[str, float]
    probabilities: np.ndarray
    overlay: np.ndarray | None = None
    heat: np.ndarray | None = None
    start: float | None = None
    end: float | None = None

    def __repr__(self) -> str:
        scores = ", ".join(f"{name!r}: {score:.3f}" for name, score in self.scores.items())
        return f"Prediction({self.path!r}, labels={self.labels!r}, scores={{{scores}}})"

    def relative_path(self, root: str) -> str:
        """Returns the path of the image file relative to the directory `root`.

        Raises:
          ConfigError: the image did not come from a file.
        """
        if self.path is None:
            raise ConfigError("the image of this prediction has no path; predict from files")
        return os.path.relpath(self.path, root)
