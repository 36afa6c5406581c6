"""The labels of an image in one cell: `cat|dog`.

A separator or backslash within a name is escaped by a backslash: `a\\|b` is the one label `a|b`.
"""

import re
from collections.abc import Iterable


def join_labels(names: Iterable[str], separator: str) -> str:
    """Joins labels, with separators and backslashes in names escaped."""
    if not separator:
        return "".join(names)
    # Without its first character no separator can start within a name.
    special = re.compile(rf"(\\|{re.escape(separator[0])})")
    return separator.join(special.sub(r"\\\1", name) for name in names)


def split_labels(text: str, separator: str) -> list[str]:
    """Splits what `join_labels` joined; '' as the separator gives one label."""
    if not separator:
        return [text]
    names, start = [""], 0
    mark = rf"\\(?P<escaped>\\|{re.escape(separator[0])})|{re.escape(separator)}"
    for match in re.finditer(mark, text):
        names[-1] += text[start : match.start()] + (match["escaped"] or "")
        start = match.end()
        if match["escaped"] is None:
            names.append("")
    names[-1] += text[start:]
    return names
