"""All checks of a data set, one after the other, and their results in one place."""

import dataclasses

import numpy as np

from imgcls.audit import findings, label_errors, quality
from imgcls.audit.class_counts import Balance, count_classes
from imgcls.audit.duplicates import Duplicates, find_duplicates
from imgcls.audit.features import handmade, of_checkpoint
from imgcls.audit.findings import Finding
from imgcls.audit.label_errors import LabelErrors
from imgcls.audit.reading import Pictures, read_pictures
from imgcls.audit.shortcuts import Shortcuts, find_shortcuts
from imgcls.core.errors import ConfigError
from imgcls.data.sources.source import Source
from imgcls.data.table.problems import Problems


@dataclasses.dataclass(frozen=True)
class Audit:
    """Everything that was found.

    Attributes:
      data: the data set in the user's words.
      pictures: what was read.
      problems: entries that the source left out.
      balance, duplicates, quality, label_errors, shortcuts: of the checks.
      findings: of all of them in words; findings before notes.
      checkpoint: whose features the labels were judged by, or None.
    """

    data: str
    pictures: Pictures
    problems: Problems
    balance: Balance
    duplicates: Duplicates
    quality: dict[str, tuple[np.ndarray, np.ndarray]]
    label_errors: LabelErrors
    shortcuts: Shortcuts
    findings: list[Finding]
    checkpoint: str | None


def run_checks(
    data: str,
    sources: dict[str, Source],
    *,
    checkpoint: str | None = None,
    max_images: int | None = None,
    seed: int = 0,
    problems: Problems | None = None,
) -> Audit:
    """Checks the splits of a data set.

    Args:
      data: what it is called.
      sources: of the splits, by name.
      checkpoint: a workdir or checkpoint, whose features judge the labels; None: hand-made ones.
      max_images: read no more pictures than this, drawn by `seed`.
      seed: of all that is drawn.
      problems: entries of the dataset that were left out.

    Raises:
      ConfigError: nothing to read, or fewer than two classes.
    """
    first = next(iter(sources.values()))
    if len(first.class_names) < 2 and not first.multi_label:
        raise ConfigError(
            f"--data={data}: has the one class {first.class_names[0]!r}; an audit needs two"
        )
    pictures = read_pictures(sources, max_images, seed)
    problems = Problems() if problems is None else problems
    balance, duplicates = count_classes(pictures), find_duplicates(pictures)
    odd = quality.find_issues(pictures.raw_quality, pictures.mode)
    features = (
        of_checkpoint(checkpoint, pictures) if checkpoint else handmade(pictures.thumbs, seed)
    )
    labels, names = pictures.labels, pictures.class_names
    wrong = label_errors.find_label_errors(features, labels, names, seed)
    shortcuts = find_shortcuts(pictures, seed)
    found = [
        *findings.of_reading(pictures, problems),
        *findings.of_shortcuts(shortcuts),
        *findings.of_duplicates(duplicates, pictures),
        *findings.of_label_errors(wrong),
        *findings.of_balance(balance, pictures),
        *findings.of_quality(odd, pictures),
    ]
    found.sort(key=lambda f: f.level)
    parts = (balance, duplicates, odd, wrong, shortcuts, found, checkpoint)
    return Audit(data, pictures, problems, *parts)
