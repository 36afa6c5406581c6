"""Labels in one-hot columns: a column of 0 and 1 for each class."""

from imgcls.core import log
from imgcls.core.errors import ConfigError, did_you_mean
from imgcls.data.table.table import Table

# Texts of a cell, in lower case. An empty cell is 0.
_VALUES = {"0": False, "0.0": False, "false": False, "": False}
_VALUES |= {"1": True, "1.0": True, "true": True}

# Line number and cells of each row, by column; or what is wrong with it.
Rows = list[tuple[int, dict | str]]


def find_columns(rows: Rows, columns: list[str], table: Table) -> list[str]:
    """Returns the columns that are classes: the declared ones, or all that hold only 0 and 1.

    Fewer than two columns of 0 and 1, or no 1 in any of them, are not recognized.

    Args:
      rows: rows of a manifest.
      columns: names of its columns, without those of a role.
      table: `label_columns` are the declared columns.

    Raises:
      ConfigError: a declared column does not exist.
    """
    for name in table.label_columns:
        if name not in columns:
            raise ConfigError(
                f"{table.spec}: config.data.label_columns: no column {name!r}"
                f"{did_you_mean(name, columns)}; it has {', '.join(columns)}"
            )
    if table.label_columns:
        return list(table.label_columns)
    cells = [row for _, row in rows if isinstance(row, dict)]
    found = [name for name in columns if name and _is_one_hot(cells, name)]
    if len(found) < 2 or not any(_VALUES[_text(row[name])] for row in cells for name in found):
        return []
    log.warn_once(
        f"{table.spec}: the classes are the columns that hold only 0 and 1: {', '.join(found)}; "
        "config.data.label_columns names others"
    )
    return found


def read_labels(rows: Rows, columns: list[str], table: Table) -> Rows:
    """Returns the rows with a tuple of class names as `label`, in place of the columns.

    The table is multi-label by default unless each row has exactly one class.

    Args:
      rows: rows of a manifest.
      columns: columns that are classes.
      table: collects the columns as classes.
    """
    table.classes.update(columns)
    labeled: Rows = []
    for line, row in rows:
        if isinstance(row, str):
            labeled.append((line, row))
            continue
        invalid = next((c for c in columns if _text(row.get(c)) not in _VALUES), None)
        if invalid is not None:
            fault = f"has {row[invalid]!r} in the column {invalid!r}, not 0 or 1"
            labeled.append((line, fault))
            continue
        labels = tuple(c for c in columns if _VALUES[_text(row.get(c))])
        table.listed |= len(labels) != 1
        others = {key: value for key, value in row.items() if key not in columns}
        labeled.append((line, {**others, "label": labels}))
    return labeled


def _is_one_hot(rows: list[dict], column: str) -> bool:
    """Whether all cells are 0 or 1, and none is empty."""
    return all(_text(row.get(column)) in _VALUES.keys() - {""} for row in rows)


def _text(value) -> str:
    """A cell as text in lower case; numbers and booleans of JSON as in CSV."""
    return "" if value is None else str(value).strip().lower()
