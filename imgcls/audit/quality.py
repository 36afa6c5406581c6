"""Dark, bright, blurry, empty and odd images, by the measurements and thresholds of cleanvision."""

from typing import Any

import numpy as np
import pandas as pd
from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager
from PIL import Image

# Issues that need the pixels; `light` is computed with `dark`, `grayscale` from the file's header.
_MEASURED = ("dark", "low_information", "blurry", "odd_aspect_ratio", "odd_size")
# Larger images are reduced before their brightness is measured, which hardly changes it.
_SIDE = 256

# A decorator of cleanvision declares the base class as the type.
_manager: Any = ImagePropertyIssueManager()
ISSUES = tuple(_manager.params)


def measure(image: Image.Image) -> dict[str, float]:
    """Returns the raw measurements of one image, under the names of cleanvision."""
    small = image.reduce(max(1, max(image.size) // _SIDE))
    raw: dict[str, float] = {}
    for issue in _MEASURED:
        brightness = issue in ("dark", "low_information")
        raw |= _manager.image_properties[issue].calculate(small if brightness else image)
    return raw


def find_issues(raw: dict[str, np.ndarray], mode: np.ndarray) -> dict[str, tuple]:
    """Finds the images that cleanvision's thresholds flag.

    Args:
      raw: `{name: float [N]}`, see `measure`.
      mode: text `[N]`, color modes of the files, as named by Pillow.

    Returns:
      `{issue: (indices, scores)}`, worst first; 0 is the worst score and 1 the best.
    """
    table = pd.DataFrame({**raw, "color_space": mode})
    flagged = {}
    for issue, params in _manager.params.items():
        check = _manager.image_properties[issue]
        scores = check.get_scores(table[check.score_columns], issue, **params)
        marked = check.mark_issue(scores, issue, params.get("threshold")).iloc[:, 0].to_numpy()
        scores = scores.iloc[:, 0].to_numpy(float)
        indices = np.flatnonzero(marked)
        indices = indices[np.argsort(scores[indices], kind="stable")]
        flagged[issue] = (indices, scores[indices])
    return flagged
