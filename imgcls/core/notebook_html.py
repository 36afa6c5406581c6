"""HTML of results for notebooks: tables and bars, with inline styles, that need no script.

Every text is escaped, since file and class names are untrusted.
"""

import html
from collections.abc import Iterable

CELL = "padding:2px 10px 2px 0;text-align:{};font-variant-numeric:tabular-nums"


def text(value: object) -> str:
    """Escapes a value."""
    return html.escape(str(value))


def table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A table; numbers are set right, floats with four digits, None as a dash."""
    lines = ["<table style='border-collapse:collapse'>"]
    cells = "".join(f"<th style='{CELL.format('left')}'>{text(name)}</th>" for name in header)
    lines.append(f"<thead><tr>{cells}</tr></thead><tbody>")
    lines += [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows]
    return "".join([*lines, "</tbody></table>"])


def _cell(value: object) -> str:
    side = "right" if isinstance(value, int | float) else "left"
    shown = "–" if value is None else f"{value:.4f}" if isinstance(value, float) else value
    return f"<td style='{CELL.format(side)}'>{text(shown)}</td>"


def bar(label: object, share: float, width: int = 140) -> str:
    """A line with a label, a bar for a share between 0 and 1, and the share in percent."""
    filled = round(width * min(max(share, 0.0), 1.0))
    return (
        "<div style='display:flex;align-items:center;gap:6px;font-size:12px'>"
        f"<span style='width:{width}px;height:8px;background:#8883;border-radius:4px'>"
        f"<span style='display:block;width:{filled}px;height:8px;background:#3b7dd8;"
        f"border-radius:4px'></span></span><span>{100 * share:.1f}% {text(label)}</span></div>"
    )


def heat_table(names: list[str], counts: list[list[int]]) -> str:
    """A confusion matrix, rows are labels and columns predictions, colored by share of the row."""
    head = "".join(
        f"<th style='{CELL.format('center')};writing-mode:vertical-rl'>{text(name)}</th>"
        for name in names
    )
    rows = []
    for i, (name, row) in enumerate(zip(names, counts, strict=True)):
        cells = []
        for j, count in enumerate(row):
            color = "59,125,216" if i == j else "216,80,59"
            share = count / max(sum(row), 1)
            cells.append(
                f"<td style='padding:2px 6px;text-align:right;"
                f"background:rgba({color},{share:.2f})'>{count or ''}</td>"
            )
        rows.append(f"<tr><th style='{CELL.format('left')}'>{text(name)}</th>{''.join(cells)}</tr>")
    return (
        "<table style='border-collapse:collapse;font-size:12px'>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
