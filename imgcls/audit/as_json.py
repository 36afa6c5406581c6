"""An audit as JSON: every finding and number. The keys are stable."""

import dataclasses

import numpy as np

from imgcls.audit.checks import Audit
from imgcls.audit.shortcuts import Property

VERSION = 1


def to_json(audit: Audit) -> dict:
    """Converts an audit to plain values, for `json.dumps`."""
    images, shortcuts = audit.images, audit.shortcuts
    return {
        "version": VERSION,
        "data": audit.data,
        "checkpoint": audit.checkpoint,
        "class_names": list(images.class_names),
        "multi_label": images.multi_label,
        "splits": list(images.splits),
        "pictures": len(images),
        "findings": [dataclasses.asdict(f) for f in audit.findings],
        "unreadable": [u._asdict() for u in images.unreadable],
        "problems": {
            "counts": dict(audit.problems.counts),
            "names": audit.problems.names,
            "passed_over": dict(audit.problems.passed_over),
            "other_files": dict(audit.problems.other_files),
        },
        "counts": {
            split: dict(zip(images.class_names, map(int, row), strict=True))
            for split, row in zip(images.splits, audit.class_counts.counts, strict=True)
        },
        "properties": {p.name: _summary(p) for p in shortcuts.properties.values()},
        "duplicates": _duplicates(audit),
        "groups": [
            {
                "name": group.name,
                "source": group.source,
                "splits": [images.splits[s] for s in group.splits],
                "pictures": [_place(audit, i) for i in group.rows],
            }
            for group in audit.shared
        ],
        "quality": {
            issue: [
                _place(audit, i) | {"score": round(float(score), 4)}
                for i, score in zip(indices, scores, strict=True)
            ]
            for issue, (indices, scores) in audit.quality.items()
        },
        "label_errors": _label_errors(audit),
        "shortcuts": {
            "tests": [dataclasses.asdict(t) for t in shortcuts.tests],
            "skipped_classes": shortcuts.skipped,
            "constant": shortcuts.constant,
            "examples": shortcuts.examples,
        },
    }


def _duplicates(audit: Audit) -> dict:
    found = audit.duplicates
    return {
        "exact": [
            {"same_file": same, "pictures": [_place(audit, i) for i in group]}
            for group, same in zip(found.exact, found.same_file, strict=True)
        ],
        "near": [
            {"correlation": round(float(c), 4), "pictures": [_place(audit, i) for i in pair]}
            for pair, c in zip(found.near, found.correlation, strict=True)
        ],
    }


def _label_errors(audit: Audit) -> dict:
    found, class_names = audit.label_errors, audit.images.class_names
    return {
        "accuracy": found.accuracy,
        "share": found.share,
        "likelihood_ratio": found.ratio,
        "significant": found.significant,
        "judged": found.judged,
        "skipped_classes": found.skipped,
        "suspects": [
            _place(audit, s.index)
            | {
                "given": class_names[s.given],
                "better": class_names[s.better],
                "missing": s.missing,
                "score": round(s.score, 5),
            }
            for s in found.suspects
        ],
    }


def _place(audit: Audit, i: int) -> dict:
    """Returns where image `i` is, and its labels."""
    images = audit.images
    return {
        "name": images.names[i],
        "split": images.splits[images.split[i]],
        "index": int(images.index[i]),
        "labels": images.label_names(i),
    }


def _summary(prop: Property) -> dict:
    """Returns minimum, median and maximum of numbers, or how often each value of a text occurs."""
    if prop.values.dtype.kind == "f":
        present = prop.values[np.isfinite(prop.values)]
        if not len(present):
            return {"pictures": 0}
        low, median, high = map(float, np.quantile(present, [0, 0.5, 1]))
        return {"pictures": len(present), "min": low, "median": median, "max": high}
    values, counts = np.unique(prop.values, return_counts=True)
    return {
        "pictures": len(prop.values),
        "values": dict(zip(values, map(int, counts), strict=True)),
    }
