"""Compare runs: `python -m imgcls.compare /runs/a /runs/b '/runs/sweep/*'`.

Prints a table with a row for each config: the keys that differ, the final and the best metrics with
their standard deviation over the seeds, steps, seconds of training, images/s and parameters. Runs
that differ in their seed alone are one row.

`--html=FILE` writes a page with the curves, accuracy against cost and, for classification, what
each run gets right and the first one wrong on the same test examples: differences of the classes
with paired bootstrap intervals, McNemar's test and pictures. Runs without predictions in `report/`
are evaluated first.
"""

import dataclasses
import os
import pathlib

from imgcls.compare import page
from imgcls.compare.groups import Group, choose_metrics, group, rows_of, to_csv, to_text
from imgcls.compare.workdirs import find_workdirs, read_run
from imgcls.core import cli, errors, log, notebook_html
from imgcls.core.errors import ConfigError, did_you_mean
from imgcls.core.storage import replace_text


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of a comparison; text on a terminal, a table in a notebook.

    Attributes:
      groups: runs with the same config but for the seed.
      metrics: names of the metrics in the columns.
      rows: `{column: value}` of each group.
    """

    groups: list[Group]
    metrics: list[str]
    rows: list[dict[str, object]]

    def __repr__(self) -> str:
        return to_text(self.rows)

    def _repr_html_(self) -> str:
        return notebook_html.table(self.rows[0], [row.values() for row in self.rows])


def main(argv: list[str] | None = None) -> int:
    """Prints the table of the runs that the arguments name, and writes the files."""
    parser = cli.create_parser("compare", __doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="workdirs, folders, globs")
    parser.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help="metric to show, such as test/accuracy; may be repeated (default: one per evaluator)",
    )
    parser.add_argument("--csv", metavar="FILE", help="write the table")
    parser.add_argument("--html", metavar="FILE", help="write the page")
    args = parser.parse_args(argv)
    cli.require_output()
    print(compare(*args.workdirs, metrics=args.metric, csv=args.csv, html=args.html))
    return 0


def compare(
    *workdirs: str | os.PathLike,
    metrics: list[str] | None = None,
    csv: str | os.PathLike | None = None,
    html: str | os.PathLike | None = None,
) -> Table:
    """Compares runs, as `python -m imgcls.compare` does.

    >>> imgcls.compare("/runs/a", "/runs/b", html="/tmp/compare.html")

    Args:
      *workdirs: workdirs, folders of them, or globs. The first run is what others are compared to.
      metrics: names of metrics, such as 'test/accuracy'; None is one of each evaluator.
      csv, html: files to write.

    Raises:
      ConfigError: a path that names no workdir, an unknown metric, or a file that can't be written.
    """
    runs = [read_run(path) for path in find_workdirs([os.fspath(path) for path in workdirs])]
    known = list(dict.fromkeys(name for run in runs for name in run.metrics))
    for name in metrics or ():
        if name not in known:
            raise ConfigError(
                f"--metric={name}: no run has it{did_you_mean(name, known)}; "
                f"valid: {', '.join(known) or 'none, as no evaluation was logged'}"
            )
    metrics = metrics or choose_metrics(runs)
    groups = group(runs)
    table = Table(groups, metrics, rows_of(groups, metrics))
    if csv is not None:
        _write(csv, to_csv(table.rows), "csv")
    if html is not None:
        _write(html, page.write(groups, metrics, table.rows), "html")
    return table


def _write(file: str | os.PathLike, text: str, flag: str) -> None:
    path = pathlib.Path(file).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as e:
        raise ConfigError(f"--{flag}={file}: can't be written: {errors.one_line(e)}") from e
    log.note(str(path))


if __name__ == "__main__":
    cli.run(main)
