"""Make a home from a copy that the command backup wrote, and check it.

The home must be new. Everything is checked before and after: the copy's bytes, the tags against
the history, the pictures.
"""

import argparse

from imgcls.core import log
from imgcls.studio import backup
from imgcls.studio.commands import check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add = parser.add_argument
    add("file", help="a file that imgcls studio backup wrote")
    add("--home", required=True, metavar="DIR", help="the new home's directory")
    add("--database", default="", metavar="URL", help="postgresql://... instead of SQLite in DIR")


def run(args: argparse.Namespace) -> int:
    """Restores and checks; the exit code is 1 if something is wrong with what was backed up."""
    home = backup.restore(args.file, args.home, args.database)
    count, problems = check.find_problems(home, read=True)
    for line in problems:
        log.result(line)
    log.result(f"{home.root}: {count:,} images restored, {len(problems) or 'no'} problems")
    return int(bool(problems))
