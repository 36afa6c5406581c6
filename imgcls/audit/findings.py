"""Descriptions of the results of the checks, as findings and notes."""

import dataclasses

from imgcls.audit import class_counts, groups, label_errors, shortcuts
from imgcls.audit.class_counts import ClassCounts
from imgcls.audit.duplicates import Duplicates
from imgcls.audit.groups import Shared
from imgcls.audit.label_errors import LabelErrors
from imgcls.audit.reading import ImageTable
from imgcls.audit.shortcuts import Shortcut, Shortcuts
from imgcls.data.decode.gray import DARK_BITS, MIN_BITS
from imgcls.data.listing import describe_extensions, is_companion
from imgcls.data.table.names import describe_alike, find_alike
from imgcls.data.table.problems import Problems

# Copies within a split and a class are a note up to this share of the images.
MAX_COPIES = 0.01
# Issues of cleanvision: the smallest share of images that gives a finding, and a description.
# Above `_TYPICAL` an issue is typical of the data, such as the black background of X-rays.
QUALITY = {
    "dark": (0.01, "almost black"),
    "light": (0.01, "almost white"),
    "low_information": (0.01, "nearly empty"),
    "blurry": (0.05, "blurry"),
    "odd_aspect_ratio": (0.05, "very long or very tall"),
    "odd_size": (0.05, "far larger or smaller than the others"),
    "grayscale": (1.0, "gray among color images"),
    "constant": (0.0, "with the same value in all voxels"),
    "nearly_empty": (0.01, "with the same value in nearly all voxels"),
    "still": (0.05, "in which nothing moves"),
    "odd_duration": (0.05, "far shorter or longer than the others"),
    "not_finite": (0.01, "with voxels that are not a number"),
}
_TYPICAL = 0.5


@dataclasses.dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
      check: name of the check.
      level: 'finding' (exit code 1) or 'note'.
      text: description in one line.
      count: number of images, classes or tests concerned.
    """

    check: str
    level: str
    text: str
    count: int


def of_reading(images: ImageTable, problems: Problems) -> list[Finding]:
    """Reports files that can't be read, entries that the source skipped, and other files."""
    found = []
    if images.unreadable:
        names = _some([u.name for u in images.unreadable])
        text = f"{_count(len(images.unreadable), images.noun)} can't be read: {names}"
        found.append(Finding("reading", "finding", text, len(images.unreadable)))
    counts = problems.counts.items()
    for (_, count), line in zip(counts, problems.lines(), strict=True):
        found.append(Finding("reading", "finding", f"skipped: {line}", count))
    others = problems.other_files
    if others:
        expected = all(not extension or is_companion(extension) for extension in others)
        text = f"files passed over: {describe_extensions(others)}"
        level = "note" if expected else "finding"
        found.append(Finding("reading", level, text, sum(others.values())))
    return found


def of_class_counts(found: ClassCounts, images: ImageTable) -> list[Finding]:
    """Reports classes that are missing, alike, tiny, or far smaller than others."""
    names, result = images.class_names, []
    if found.absent:
        where = _some([f"{names[c]!r} in {images.splits[s]}" for c, s in found.absent])
        text = f"class missing in a split: {where}"
        result.append(Finding("balance", "finding", text, len(found.absent)))
    if alike := find_alike(names):
        text = f"class names alike: {describe_alike(alike)}"
        result.append(Finding("balance", "finding", text, len(alike)))
    if found.few:
        where = _some([f"{names[c]!r} ({found.counts[:, c].sum()})" for c in found.few])
        text = f"fewer than {class_counts.FEW} {images.noun}s of a class: {where}"
        result.append(Finding("balance", "finding", text, len(found.few)))
    if found.ratio >= class_counts.UNEVEN:
        level = "finding" if found.ratio >= class_counts.VERY_UNEVEN else "note"
        text = (
            f"the largest class has {found.ratio:.0f} times as many {images.noun}s as the smallest"
        )
        result.append(Finding("balance", level, text, 1))
    if found.unlabelled:
        text = f"{_count(found.unlabelled, images.noun)} without a label"
        result.append(Finding("balance", "note", text, found.unlabelled))
    return result


def of_duplicates(found: Duplicates, images: ImageTable) -> list[Finding]:
    """Reports leaks between splits, copies with different labels, and many copies."""
    result, nouns = [], f"{images.noun}s"
    kinds = {
        (f"group of equal {nouns}", f"groups of equal {nouns}"): found.exact,
        (f"pair of nearly equal {nouns}", f"pairs of nearly equal {nouns}"): list(found.near),
    }
    for names, equal in kinds.items():
        across = [g for g in equal if len(set(images.split[g])) > 1]
        if across:
            text = f"{_count(len(across), *names)} in two splits, so test {nouns} may be trained on"
            result.append(Finding("duplicates", "finding", text, len(across)))
        differ = [g for g in equal if len({_label(images, i) for i in g}) > 1]
        if differ:
            text = f"{_count(len(differ), *names)} with different labels"
            result.append(Finding("duplicates", "finding", text, len(differ)))
    copies = sum(len(members) - 1 for members in found.sets)
    if copies:
        share = copies / len(images)
        level = "finding" if share > MAX_COPIES else "note"
        text = f"{_count(copies, 'copy', 'copies')} of other {nouns} in total ({share:.2%})"
        result.append(Finding("duplicates", level, text, copies))
    return result


def of_patients(images: ImageTable) -> list[Finding]:
    """Reports patients of DICOM files with scans in several splits, without naming them."""
    if images.patients is None:
        return []
    splits: dict[str, dict[int, str]] = {}
    for i, patient in enumerate(images.patients):
        if patient:
            splits.setdefault(patient, {}).setdefault(int(images.split[i]), images.names[i])
    shared = [names for names in splits.values() if len(names) > 1]
    if not shared:
        return []
    one = " and ".join("/".join(name.split("/")[-2:]) for name in shared[0].values())
    text = (
        f"{_count(len(shared), 'patient')} with scans in two splits by the IDs of the headers, as "
        f"{one}: name the patient in the column `group` of a manifest"
    )
    return [Finding("duplicates", "finding", text, len(shared))]


def of_groups(shared: list[Shared], images: ImageTable) -> list[Finding]:
    """Reports scenes and subjects in several splits."""
    result = []
    for source, what in groups.SOURCES.items():
        found = [group for group in shared if group.source == source]
        if not found:
            continue
        ways = [f"{g.name} in {' and '.join(images.splits[s] for s in g.splits)}" for g in found]
        text = f"{_count(len(found), *what)} in several splits: {_some(ways)}"
        if source == "name":
            text += "; name the group of each video in the column `group` of a manifest"
        result.append(Finding("duplicates", "finding", text, len(found)))
    return result


def of_bits(images: ImageTable) -> list[Finding]:
    """Reports gray images of 16 bits that use fewer, which look dark."""
    deep = images.used_bits > 0
    if images.decoding.bits is not None or not deep.any():
        return []
    bits = max(int(images.used_bits.max()), MIN_BITS)
    if bits >= 16:
        return []
    text = (
        f"{_count(int(deep.sum()), 'gray image')} of 16 bits with values of at most {bits} bits, "
        f"which look dark: set --bits={bits} here, and config.data.bits={bits} for training"
    )
    level = "finding" if bits <= DARK_BITS else "note"
    return [Finding("quality", level, text, int(deep.sum()))]


def of_quality(found: dict[str, tuple], count: int, noun: str = "image") -> list[Finding]:
    """Reports the examples with an issue, of `count` in total."""
    result = []
    for issue, (indices, _) in found.items():
        share = len(indices) / count
        bound, words = QUALITY[issue]
        if len(indices) and not (issue == "grayscale" and share == 1):
            level = "finding" if bound <= share <= _TYPICAL else "note"
            text = f"{_count(len(indices), noun)} {words} ({share:.2%})"
            result.append(Finding("quality", level, text, len(indices)))
    return result


def of_label_errors(found: LabelErrors, noun: str = "image") -> list[Finding]:
    """Reports how many labels are wrong, or how many are worth a look."""
    result = []
    count = len(found.suspects)
    if found.significant:
        wrong = round(found.share * found.judged)
        text = (
            f"about {wrong} labels ({found.share:.1%}) look wrong; {count} suspects are listed, "
            "the most suspect first"
        )
        result.append(Finding("label_errors", "finding", text, wrong))
    elif found.judged and not found.reliable:
        text = (
            f"wrong labels can't be counted: the classifier's accuracy of {found.accuracy:.0%} on "
            f"held-out {noun}s is too low; use a trained model's features with --checkpoint"
        )
        result.append(Finding("label_errors", "note", text, count))
    elif count:
        text = f"{_count(count, 'label')} worth a look, no more than expected by chance"
        result.append(Finding("label_errors", "note", text, count))
    if found.skipped:
        text = (
            f"labels not checked, fewer than {label_errors.FOLDS} {noun}s: {_some(found.skipped)}"
        )
        result.append(Finding("label_errors", "note", text, len(found.skipped)))
    return result


def of_shortcuts(found: Shortcuts, noun: str = "image") -> list[Finding]:
    """Reports properties that predict the labels."""
    result = [
        Finding("shortcuts", "finding" if test.level == "strong" else "note", describe(test), 1)
        for test in found.tests
        if test.level != "none"
    ]
    if found.folders_are_classes:
        text = (
            "each class has its own folder under a different name; if the folders are the origins "
            f"of the {noun}s, a model may learn the origin instead"
        )
        result.append(Finding("shortcuts", "note", text, 1))
    if found.skipped:
        text = f"not tested, fewer than {shortcuts.MIN_EXAMPLES} {noun}s: {_some(found.skipped)}"
        result.append(Finding("shortcuts", "note", text, len(found.skipped)))
    return result


def describe(test: Shortcut) -> str:
    """Describes a test in one line."""
    what = f"class {test.target!r}" if test.target else "the class"
    return (
        f"{test.property} alone predicts {what} with {test.score:.0%} balanced accuracy "
        f"(chance {test.baseline:.0%}, p = {test.p_adjusted:.2g})"
    )


def _label(images: ImageTable, i: int):
    label = images.labels[i]
    return label.tobytes() if images.multi_label else int(label)


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(map(str, names[:most])) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )
