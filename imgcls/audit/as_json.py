"""An audit as JSON: every finding and number, under keys that stay."""

import dataclasses

import numpy as np

from imgcls.audit.checks import Audit
from imgcls.audit.shortcuts import Property

VERSION = 1


def to_json(audit: Audit) -> dict:
    """A tree of plain values, for `json.dumps`."""
    pictures, wrong, shortcuts = audit.pictures, audit.label_errors, audit.shortcuts
    return {
        "version": VERSION,
        "data": audit.data,
        "checkpoint": audit.checkpoint,
        "class_names": list(pictures.class_names),
        "multi_label": pictures.multi_label,
        "splits": list(pictures.splits),
        "pictures": len(pictures),
        "findings": [dataclasses.asdict(f) for f in audit.findings],
        "unreadable": [u._asdict() for u in pictures.unreadable],
        "problems": {
            "counts": dict(audit.problems.counts),
            "names": audit.problems.names,
            "passed_over": dict(audit.problems.passed_over),
        },
        "counts": {
            split: dict(zip(pictures.class_names, map(int, row), strict=True))
            for split, row in zip(pictures.splits, audit.balance.counts, strict=True)
        },
        "properties": {p.name: _summary(p) for p in shortcuts.properties.values()},
        "duplicates": _duplicates(audit),
        "quality": {
            issue: [
                _place(audit, i) | {"score": round(float(score), 4)}
                for i, score in zip(indices, scores, strict=True)
            ]
            for issue, (indices, scores) in audit.quality.items()
        },
        "label_errors": {
            "accuracy": wrong.accuracy,
            "share": wrong.share,
            "likelihood_ratio": wrong.ratio,
            "significant": wrong.significant,
            "judged": wrong.judged,
            "skipped_classes": wrong.skipped,
            "suspects": [
                _place(audit, s.index)
                | {
                    "given": pictures.class_names[s.given],
                    "better": pictures.class_names[s.better],
                    "missing": s.missing,
                    "score": round(s.score, 5),
                }
                for s in wrong.suspects
            ],
        },
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


def _place(audit: Audit, i: int) -> dict:
    """Where a picture is, and its label."""
    pictures = audit.pictures
    names = [pictures.class_names[c] for c in np.flatnonzero(pictures.targets_of(i))]
    return {
        "name": pictures.names[i],
        "split": pictures.splits[pictures.split[i]],
        "index": int(pictures.index[i]),
        "labels": names,
    }


def _summary(prop: Property) -> dict:
    """Of a number its least, median and most; of a text how often each value occurs."""
    if prop.values.dtype.kind == "f":
        there = prop.values[np.isfinite(prop.values)]
        if not len(there):
            return {"pictures": 0}
        low, middle, high = map(float, np.quantile(there, [0, 0.5, 1]))
        return {"pictures": len(there), "min": low, "median": middle, "max": high}
    values, counts = np.unique(prop.values, return_counts=True)
    return {
        "pictures": len(prop.values),
        "values": dict(zip(values, map(int, counts), strict=True)),
    }
