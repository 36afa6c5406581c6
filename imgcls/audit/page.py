"""An audit as an HTML page: the findings, and the images and charts that support them."""

import os

import numpy as np

from imgcls.audit import charts, findings
from imgcls.audit.checks import Audit
from imgcls.audit.shortcuts import Property
from imgcls.core.errors import DataError
from imgcls.report import html

# Longest side of an image in pixels, and of the slices of a volume.
SIDE = 160
SLICES_SIDE = 260
# Properties whose range is a fact about the data.
_FACTS = ("width", "height", "file size", "JPEG quality")
_VIDEO_FACTS = ("duration", "frame rate", "width", "height", "file size")
_VOLUME_FACTS = (
    *("depth", "height", "width", "spacing D", "spacing H", "spacing W"),
    *("smallest value", "largest value", "file size"),
)
# Largest number of kinds of files that are listed.
_KINDS = 12
# Largest number of images of each kind on the page.
EXTREMES, PAIRS, SUSPECTS, ODD, GROUPS = 12, 24, 48, 12, 12


def write(audit: Audit) -> str:
    """Returns the page as HTML."""
    return html.render(
        "audit.html",
        audit=audit,
        images=audit.images,
        facts=_facts(audit),
        counts=_counts(audit),
        shortcuts=_shortcuts(audit),
        pairs=_pairs(audit),
        shared=_shared(audit),
        suspects=[
            _figure(audit, s.index) | {"suspect": s} for s in audit.label_errors.suspects[:SUSPECTS]
        ],
        quality=[
            (findings.QUALITY[issue][1], len(indices), [_figure(audit, i) for i in indices[:ODD]])
            for issue, (indices, _) in audit.quality.items()
            if len(indices)
        ],
    )


def _facts(audit: Audit) -> dict[str, str]:
    """Returns sizes and file formats of the images, in words."""
    properties = audit.shortcuts.properties
    are_volumes, facts = audit.images.cubes is not None, {}
    are_videos = audit.images.prints is not None
    for name in _VOLUME_FACTS if are_volumes else _VIDEO_FACTS if are_videos else _FACTS:
        values = properties[name].values
        values = values[np.isfinite(values)]
        if len(values):
            # Spacings and values of volumes, and seconds, are not whole numbers.
            whole = abs(values).max() >= 100 or not (are_volumes or are_videos)
            form = ",.0f" if whole else ".4g"
            low, median, high = (format(q, form) for q in np.quantile(values, [0, 0.5, 1]))
            facts[name] = low if low == high else f"{low} to {high}, median {median}"
            facts[name] += f" {properties[name].unit}" if properties[name].unit else ""
    for name in ("file format", *(("codec", "encoder", "sound") if are_videos else ())):
        if name in properties:
            kinds, numbers = np.unique(properties[name].values, return_counts=True)
            missing = "pixels" if name == "file format" else "none"
            counted = [f"{k or missing} ({n:,})" for k, n in zip(kinds, numbers, strict=True)]
            facts[name] = ", ".join(counted[:_KINDS]) + (", ..." if len(counted) > _KINDS else "")
    return facts


def _counts(audit: Audit) -> list[tuple[str, list[int]]]:
    """Returns each class and its number of images in each split."""
    columns = audit.class_counts.counts.T.tolist()
    return list(zip(audit.images.class_names, columns, strict=True))


def _shortcuts(audit: Audit) -> list[dict]:
    """Returns the strong and weak shortcuts, each with a chart and extreme images."""
    tests = [t for t in audit.shortcuts.tests if t.level != "none"]
    sections = []
    for name in dict.fromkeys(t.property for t in tests):
        prop = audit.shortcuts.properties[name]
        tests_of_property = [t for t in tests if t.property == name]
        sections.append(
            {
                "name": name,
                "level": tests_of_property[0].level,
                "texts": [findings.describe(t) for t in tests_of_property],
                "chart": charts.spread(prop, audit.images.targets(), audit.images.class_names),
                "rows": [
                    (title, [_figure(audit, i) for i in rows]) for title, rows in _extremes(prop)
                ],
            }
        )
    return sections


def _extremes(prop: Property) -> list[tuple[str, np.ndarray]]:
    """Returns titles and images: the lowest and highest values, or some of each hue or text."""
    if prop.name == "hue":
        away = [np.abs((prop.values - hue + 180) % 360 - 180) for hue in (0, 120, 240)]
        kinds = zip(("Red", "Green", "Blue"), away, strict=True)
        return [(name, np.argsort(distance)[: EXTREMES // 2]) for name, distance in kinds]
    if prop.values.dtype.kind == "f":
        order = np.argsort(prop.values, kind="stable")
        order = order[np.isfinite(prop.values[order])]
        return [("Lowest", order[:EXTREMES]), ("Highest", order[-EXTREMES:][::-1])]
    values, counts = np.unique(prop.values, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")][:3]
    return [(str(v) or "(none)", np.flatnonzero(prop.values == v)[:EXTREMES]) for v in frequent]


def _pairs(audit: Audit) -> list[dict]:
    """Returns pairs of duplicates: first those with different labels, then those in two splits."""
    found, images = audit.duplicates, audit.images
    pairs = [(group[0], other, True) for group in found.exact for other in group[1:]]
    pairs += [(a, b, False) for a, b in found.near]
    targets = images.targets_of
    rows = []
    for a, b, exact in pairs:
        same_labels = bool((targets(a) == targets(b)).all())
        rows.append((same_labels, bool(images.split[a] == images.split[b]), exact, a, b))
    rows.sort(key=lambda row: row[:2])
    return [
        {
            "images": [_figure(audit, a), _figure(audit, b)],
            "how": "equal" if exact else "nearly equal",
            "differ": not same_labels,
            "leaks": not same_split,
        }
        for same_labels, same_split, exact, a, b in rows[:PAIRS]
    ]


def _shared(audit: Audit) -> list[dict]:
    """Returns groups in several splits, each with its first example in each of these."""
    images = audit.images
    return [
        {
            "name": group.name,
            "images": [
                _figure(audit, group.rows[images.split[group.rows] == s][0]) for s in group.splits
            ],
        }
        for group in audit.shared[:GROUPS]
    ]


def _figure(audit: Audit, i: int) -> dict:
    """Returns image `i` for the template: `image`, `name`, `short_name`, `labels`, `split`."""
    images = audit.images
    try:
        side = SIDE if images.cubes is None else SLICES_SIDE
        image = html.image_uri(images.pixels(i), side)
    except DataError:  # It can no longer be read.
        image = "data:,"
    return {
        "image": image,
        "name": images.names[i],
        "short_name": os.path.basename(images.names[i]),
        "labels": ", ".join(images.label_names(i)) or "no label",
        "split": images.splits[images.split[i]],
    }
