"""Runs all checks of a dataset and collects their results."""

import dataclasses

import numpy as np

from imgcls.audit import findings, groups, label_errors, quality, videos, volumes
from imgcls.audit.class_counts import ClassCounts, count_classes
from imgcls.audit.duplicates import Duplicates, find_duplicates
from imgcls.audit.features import handmade, of_checkpoint
from imgcls.audit.findings import Finding
from imgcls.audit.groups import Shared
from imgcls.audit.label_errors import LabelErrors
from imgcls.audit.reading import RGB, Decoding, ImageTable, read_images
from imgcls.audit.shortcuts import Shortcuts, find_shortcuts
from imgcls.core import notebook_html
from imgcls.core.errors import ConfigError
from imgcls.data.sources.source import Source
from imgcls.data.table.problems import Problems


@dataclasses.dataclass(frozen=True)
class Audit:
    """Results of all checks.

    Attributes:
      data: the dataset as the user named it.
      images: measured images.
      problems: entries that the source skipped.
      class_counts, duplicates, quality, label_errors, shortcuts: results of the checks.
      shared: groups of examples, such as scenes or subjects, that lie in several splits.
      findings: the results in words, findings before notes.
      checkpoint: the checkpoint whose features the labels were checked with; None for hand-made
        features.
    """

    data: str
    images: ImageTable
    problems: Problems
    class_counts: ClassCounts
    duplicates: Duplicates
    quality: dict[str, tuple[np.ndarray, np.ndarray]]
    label_errors: LabelErrors
    shortcuts: Shortcuts
    shared: list[Shared]
    findings: list[Finding]
    checkpoint: str | None

    def _repr_html_(self) -> str:
        """The findings as a table."""
        rows = [(f.level, f.check, f.text) for f in self.findings]
        title = f"<p>{notebook_html.text(self.data)}: {len(self.images):,} images</p>"
        return title + notebook_html.table(("level", "check", "what"), rows)


def run_checks(
    data: str,
    sources: dict[str, Source],
    *,
    checkpoint: str | None = None,
    max_images: int | None = None,
    seed: int = 0,
    problems: Problems | None = None,
    decoding: Decoding = RGB,
    pattern: str | None = None,
) -> Audit:
    """Checks the splits of a dataset.

    Args:
      data: the dataset as the user named it.
      sources: source of each split, by the name of the split.
      checkpoint: a workdir or checkpoint whose features the labels are checked with; None uses
        hand-made features.
      max_images: check only a random sample of this many images.
      seed: seed of the sample, the folds and the permutations.
      problems: entries that the source skipped.
      decoding: how images are decoded, as `config.data.bits` and `config.data.channels`.
      pattern: regular expression whose first group in a name is the example's scene or subject.

    Raises:
      ConfigError: no image can be read, or there are fewer than two classes.
    """
    first = next(iter(sources.values()))
    if len(first.class_names) < 2 and not first.multi_label:
        only = ", ".join(map(repr, first.class_names))
        raise ConfigError(f"--data={data}: has only one class, {only}; an audit needs two")
    images = read_images(sources, max_images, seed, decoding)
    problems = Problems() if problems is None else problems
    counts, duplicates = count_classes(images), find_duplicates(images)
    if images.prints is not None:
        issues = videos.find_issues(images.raw_quality, images.mode)
    elif images.cubes is None:
        issues = quality.find_issues(images.raw_quality, images.mode)
    else:
        issues = volumes.find_issues(images.raw_quality)
    features = of_checkpoint(checkpoint, images) if checkpoint else handmade(images.thumbs, seed)
    labels, names = images.labels, images.class_names
    errors = label_errors.find_label_errors(features, labels, names, seed)
    shortcuts, shared = find_shortcuts(images, seed), groups.find_shared(images, pattern)
    found = [
        *findings.of_reading(images, problems),
        *findings.of_shortcuts(shortcuts, images.noun),
        *findings.of_duplicates(duplicates, images),
        *findings.of_patients(images),
        *findings.of_groups(shared, images),
        *findings.of_label_errors(errors, images.noun),
        *findings.of_class_counts(counts, images),
        *findings.of_bits(images),
        *findings.of_quality(issues, len(images), images.noun),
    ]
    found.sort(key=lambda f: f.level)
    return Audit(
        data=data,
        images=images,
        problems=problems,
        class_counts=counts,
        duplicates=duplicates,
        quality=issues,
        label_errors=errors,
        shortcuts=shortcuts,
        shared=shared,
        findings=found,
        checkpoint=checkpoint,
    )
