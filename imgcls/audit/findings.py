"""What the checks found, in plain words, and what of it is a finding rather than a note."""

import dataclasses

from imgcls.audit import class_counts, label_errors, shortcuts
from imgcls.audit.class_counts import Balance
from imgcls.audit.duplicates import Duplicates
from imgcls.audit.label_errors import LabelErrors
from imgcls.audit.reading import Pictures
from imgcls.audit.shortcuts import Shortcut, Shortcuts
from imgcls.data.table.problems import Problems

# Copies within a split and a class make training lopsided, but are no mistake until there are many.
MAX_COPIES = 0.01
# cleanvision's issues: from which share of the pictures on they are a finding. Above half it is the
# nature of the data, such as X-rays on black.
QUALITY = {
    "dark": (0.01, "almost black"),
    "light": (0.01, "almost white"),
    "low_information": (0.01, "nearly empty"),
    "blurry": (0.05, "blurry"),
    "odd_aspect_ratio": (0.05, "very long or very tall"),
    "odd_size": (0.05, "far larger or smaller than the others"),
    "grayscale": (1.0, "grey among pictures in colour"),
}
_NATURE = 0.5


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to know.

    Attributes:
      check: which check says so; the section of the page.
      level: 'finding' (the exit code is 1) or 'note'.
      text: in plain words, one line.
      count: number of pictures, classes or tests concerned.
    """

    check: str
    level: str
    text: str
    count: int


def of_reading(pictures: Pictures, problems: Problems) -> list[Finding]:
    """Files that can't be read, and entries that the source left out."""
    found = []
    if pictures.unreadable:
        names = _some([u.name for u in pictures.unreadable])
        text = f"{_count(len(pictures.unreadable), 'picture')} can't be read: {names}"
        found.append(Finding("reading", "finding", text, len(pictures.unreadable)))
    counts = problems.counts.items()
    for (_, count), line in zip(counts, problems.lines(), strict=True):
        found.append(Finding("reading", "finding", f"left out: {line}", count))
    return found


def of_balance(found: Balance, pictures: Pictures) -> list[Finding]:
    """Classes that are missing, tiny, or far smaller than others."""
    names, result = pictures.class_names, []
    if found.absent:
        where = _some([f"{names[c]!r} in {pictures.splits[s]}" for c, s in found.absent])
        text = f"a split lacks a class that others have: {where}"
        result.append(Finding("balance", "finding", text, len(found.absent)))
    if found.few:
        where = _some([f"{names[c]!r} ({found.counts[:, c].sum()})" for c in found.few])
        text = f"fewer than {class_counts.FEW} pictures of a class: {where}"
        result.append(Finding("balance", "finding", text, len(found.few)))
    if found.ratio >= class_counts.UNEVEN:
        level = "finding" if found.ratio >= class_counts.VERY_UNEVEN else "note"
        text = f"the largest class has {found.ratio:.0f} times the pictures of the smallest"
        result.append(Finding("balance", level, text, 1))
    if found.unlabelled:
        text = f"{_count(found.unlabelled, 'picture')} without any label"
        result.append(Finding("balance", "note", text, found.unlabelled))
    return result


def of_duplicates(found: Duplicates, pictures: Pictures) -> list[Finding]:
    """Leaks between splits, copies with different labels, and many copies."""
    result = []
    kinds = {
        "the same": found.exact,
        "nearly the same": [found.near[i] for i in range(len(found.near))],
    }
    for how, groups in kinds.items():
        across = [g for g in groups if len(set(pictures.split[g])) > 1]
        if across:
            text = (
                f"{_count(len(across), 'picture')} {how} in two splits: a test on them is no test"
            )
            result.append(Finding("duplicates", "finding", text, len(across)))
        differ = [g for g in groups if len({_label(pictures, i) for i in g}) > 1]
        if differ:
            text = f"{_count(len(differ), 'picture')} {how} with different labels"
            result.append(Finding("duplicates", "finding", text, len(differ)))
    copies = sum(len(members) - 1 for members in found.sets)
    if copies:
        share = copies / len(pictures)
        level = "finding" if share > MAX_COPIES else "note"
        text = f"{_count(copies, 'copy', 'copies')} of other pictures ({share:.2%}) in all"
        result.append(Finding("duplicates", level, text, copies))
    return result


def of_quality(found: dict[str, tuple], pictures: Pictures) -> list[Finding]:
    """Pictures below cleanvision's bounds, by kind."""
    result = []
    for issue, (indices, _) in found.items():
        share = len(indices) / len(pictures)
        bound, words = QUALITY[issue]
        if len(indices) and not (issue == "grayscale" and share == 1):
            level = "finding" if bound <= share <= _NATURE else "note"
            text = f"{_count(len(indices), 'picture')} {words} ({share:.2%})"
            result.append(Finding("quality", level, text, len(indices)))
    return result


def of_label_errors(found: LabelErrors) -> list[Finding]:
    """Whether labels are wrong beyond doubt of the classifier, else how many look so."""
    result = []
    count = len(found.suspects)
    if found.significant:
        wrong = round(found.share * found.judged)
        text = (
            f"about {wrong} labels ({found.share:.1%}) look wrong; the {count} most suspect are "
            "listed in order"
        )
        result.append(Finding("label_errors", "finding", text, wrong))
    elif found.judged and not found.reliable:
        text = (
            f"wrong labels can't be counted: the classifier is right on {found.accuracy:.0%} of "
            "held-out pictures, too little (--checkpoint gives it a trained model's features)"
        )
        result.append(Finding("label_errors", "note", text, count))
    elif count:
        text = f"{_count(count, 'label')} worth a look, no more than chance explains"
        result.append(Finding("label_errors", "note", text, count))
    if found.skipped:
        text = (
            f"labels not judged, fewer than {label_errors.FOLDS} pictures: {_some(found.skipped)}"
        )
        result.append(Finding("label_errors", "note", text, len(found.skipped)))
    return result


def of_shortcuts(found: Shortcuts) -> list[Finding]:
    """Properties that give labels away."""
    result = [
        Finding("shortcuts", "finding" if test.level == "strong" else "note", tell(test), 1)
        for test in found.tests
        if test.level != "none"
    ]
    if found.folders_are_classes:
        text = (
            "every class has a folder of its own under another name; if folders are places of "
            "origin, a model may learn these instead"
        )
        result.append(Finding("shortcuts", "note", text, 1))
    if found.skipped:
        text = f"not tested, fewer than {shortcuts.MIN_EXAMPLES} pictures: {_some(found.skipped)}"
        result.append(Finding("shortcuts", "note", text, len(found.skipped)))
    return result


def tell(test: Shortcut) -> str:
    """A test in one line."""
    what = f"whether it is {test.target!r}" if test.target else "the class"
    return (
        f"{test.property} alone tells {what} with {test.score:.0%} balanced accuracy "
        f"(chance {test.baseline:.0%}, p = {test.p_adjusted:.2g})"
    )


def _label(pictures: Pictures, i: int):
    label = pictures.labels[i]
    return label.tobytes() if pictures.multi_label else int(label)


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(map(str, names[:most])) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )
