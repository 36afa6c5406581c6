"""An audit as a page: findings first, then what they are seen by."""

import os

import numpy as np

from imgcls.audit import charts, findings
from imgcls.audit.checks import Audit
from imgcls.audit.shortcuts import Property
from imgcls.core.errors import DataError
from imgcls.report import html

SIDE = 160
# Pictures of each kind that are shown.
EXTREMES, PAIRS, SUSPECTS, ODD = 12, 24, 48, 12


def write(audit: Audit) -> str:
    """The page, as HTML."""
    return html.render(
        "audit.html",
        audit=audit,
        pictures=audit.pictures,
        facts=_facts(audit),
        counts=_counts(audit),
        tests=[(test, findings.tell(test)) for test in audit.shortcuts.tests],
        shortcuts=_shortcuts(audit),
        pairs=_pairs(audit),
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
    properties = audit.shortcuts.properties
    facts = {}
    for name in ("width", "height", "file size", "JPEG quality"):
        values = properties[name].values
        values = values[np.isfinite(values)]
        if len(values):
            low, middle, high = np.quantile(values, [0, 0.5, 1])
            spread = f"{low:,.0f} to {high:,.0f}, median {middle:,.0f}"
            facts[name] = f"{low:,.0f}" if low == high else spread
            facts[name] += f" {properties[name].unit}" if properties[name].unit else ""
    kinds, numbers = np.unique(properties["file format"].values, return_counts=True)
    facts["file format"] = ", ".join(
        f"{kind or 'pixels'} ({n:,})" for kind, n in zip(kinds, numbers, strict=True)
    )
    return facts


def _counts(audit: Audit) -> list[tuple[str, list[int]]]:
    """Class and its pictures in each split."""
    columns = audit.balance.counts.T.tolist()
    return list(zip(audit.pictures.class_names, columns, strict=True))


def _shortcuts(audit: Audit) -> list[dict]:
    """Properties with a test that is not 'none', each with a chart and its extreme pictures."""
    tests = [t for t in audit.shortcuts.tests if t.level != "none"]
    shown = []
    for name in dict.fromkeys(t.property for t in tests):
        prop = audit.shortcuts.properties[name]
        of_it = [t for t in tests if t.property == name]
        shown.append(
            {
                "name": name,
                "level": of_it[0].level,
                "texts": [findings.tell(t) for t in of_it],
                "chart": charts.spread(prop, audit.pictures.targets(), audit.pictures.class_names),
                "rows": [
                    (title, [_figure(audit, i) for i in rows]) for title, rows in _extremes(prop)
                ],
            }
        )
    return shown


def _extremes(prop: Property) -> list[tuple[str, np.ndarray]]:
    """Pictures with the lowest and highest values; of hues and texts some of each kind."""
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
    """Pairs of duplicates, the worst first: other labels, then other splits."""
    found, pictures = audit.duplicates, audit.pictures
    pairs = [(group[0], other, True) for group in found.exact for other in group[1:]]
    pairs += [(a, b, False) for a, b in found.near]
    targets = pictures.targets_of
    rows = []
    for a, b, exact in pairs:
        differ = bool((targets(a) != targets(b)).any())
        rows.append((not differ, bool(pictures.split[a] == pictures.split[b]), exact, a, b))
    rows.sort(key=lambda row: row[:2])
    return [
        {
            "pictures": [_figure(audit, a), _figure(audit, b)],
            "how": "equal" if exact else "nearly equal",
            "differ": not alike,
            "leaks": not together,
        }
        for alike, together, exact, a, b in rows[:PAIRS]
    ]


def _figure(audit: Audit, i: int) -> dict:
    """What the template shows of a picture: `image`, `name`, `short`, `labels`, `split`."""
    pictures = audit.pictures
    try:
        image = html.picture(pictures.pixels(i), SIDE)
    except DataError:  # It has gone since it was read.
        image = "data:,"
    labels = [pictures.class_names[c] for c in np.flatnonzero(pictures.targets_of(i))]
    return {
        "image": image,
        "name": pictures.names[i],
        "short": os.path.basename(pictures.names[i]),
        "labels": ", ".join(labels) or "no label",
        "split": pictures.splits[pictures.split[i]],
    }
