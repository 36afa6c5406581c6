"""Dark, bright, blurry, empty and odd pictures, by the measures and bounds of cleanvision."""

import numpy as np
import pandas as pd
from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager
from PIL import Image

# What is measured on the pixels; `light` comes with `dark`, `grayscale` from the file's header.
_MEASURED = ("dark", "low_information", "blurry", "odd_aspect_ratio", "odd_size")
# Larger pictures are made smaller before their light is measured, which changes it little.
_SIDE = 256

_manager = ImagePropertyIssueManager()
ISSUES = tuple(_manager.params)


def measure(image: Image.Image) -> dict[str, float]:
    """cleanvision's raw numbers of one picture, by its own names."""
    small = image.reduce(max(1, max(image.size) // _SIDE))
    found: dict[str, float] = {}
    for issue in _MEASURED:
        light = issue in ("dark", "low_information")
        found |= _manager.image_properties[issue].calculate(small if light else image)
    return found


def find_issues(raw: dict[str, np.ndarray], mode: np.ndarray) -> dict[str, tuple]:
    """Which pictures lie below cleanvision's bounds.

    Args:
      raw: `{name: [N]}` of `measure`.
      mode: of the files, as Pillow names them, `[N]`.

    Returns:
      `{issue: (indices, scores)}`, worst first; a score of 0 is worst, 1 best.
    """
    table = pd.DataFrame({**raw, "color_space": mode})
    found = {}
    for issue, params in _manager.params.items():
        check = _manager.image_properties[issue]
        scores = check.get_scores(table[check.score_columns], issue, **params)
        marked = check.mark_issue(scores, issue, params.get("threshold")).iloc[:, 0].to_numpy()
        scores = scores.iloc[:, 0].to_numpy(float)
        indices = np.flatnonzero(marked)
        indices = indices[np.argsort(scores[indices], kind="stable")]
        found[issue] = (indices, scores[indices])
    return found
