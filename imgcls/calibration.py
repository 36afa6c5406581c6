"""What is chosen on validation after training: a temperature, and a threshold for each class.

It is kept in the checkpoint that it was chosen for, as `calibration.json`; `predict` applies it.
"""

import dataclasses
import json
import pathlib

import numpy as np

from imgcls.checkpoint import latest_checkpoint
from imgcls.errors import ConfigError
from imgcls.writer import replace_text

FILE = "calibration.json"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Chosen on a split.

    Attributes:
      temperature: what logits are divided by.
      thresholds: of the probabilities after that, float `[K]`; a class is said from its threshold
        on. None where an example has one class, the most probable.
      split: where it was chosen.
      examples: how many it was chosen on.
    """

    temperature: float = 1.0
    thresholds: np.ndarray | None = None
    split: str = ""
    examples: int = 0


def save_calibration(checkpoint: str, calibration: Calibration, class_names) -> pathlib.Path:
    """Writes it into the newest checkpoint of a workdir, or into one checkpoint."""
    path = latest_checkpoint(checkpoint) / FILE
    found = dataclasses.asdict(calibration)
    if calibration.thresholds is not None:
        values = map(float, calibration.thresholds)
        found["thresholds"] = dict(zip(class_names, values, strict=True))
    replace_text(path, json.dumps(found, indent=2) + "\n")
    return path


def load_calibration(checkpoint: str, class_names) -> Calibration:
    """That of the newest checkpoint of a workdir, or of one checkpoint; the plain one without.

    Raises:
      ConfigError: a file that was edited into something else.
    """
    path = latest_checkpoint(checkpoint) / FILE
    if not path.exists():
        return Calibration()
    try:
        found = json.loads(path.read_text())
        if found["thresholds"] is not None:
            found["thresholds"] = np.array([found["thresholds"][name] for name in class_names])
        calibration = Calibration(**found)
        if not calibration.temperature > 0:
            raise ValueError("temperature must be above 0")
    except (ValueError, LookupError, TypeError) as e:
        raise ConfigError(f"{path}: not a calibration ({e}); remove it and calibrate again") from e
    return calibration
