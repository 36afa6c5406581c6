"""Write a copy of a home to FILE, also while it is served, and check the copy.

The copy has all but thumbnails, exports and unfinished uploads. Files that were registered in place
stay where they are, and are not in it.
"""

import argparse
import pathlib

from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.studio import backup
from imgcls.studio.home import Home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add = parser.add_argument
    add("file", help="the copy, a tar")
    add("--home", required=True, metavar="DIR", help="the directory with everything of this studio")
    add("--database", default="", metavar="URL", help="postgresql://... instead of SQLite in DIR")


def run(args: argparse.Namespace) -> int:
    """Writes and checks the copy; prints what is in it."""
    root = pathlib.Path(args.home).expanduser()
    if not root.is_dir() or not (args.database or (root / "studio.sqlite").is_file()):
        raise ConfigError(f"--home={args.home}: there is no studio; write the directory of one")
    manifest = backup.write(Home(args.home, args.database), args.file)
    rows = manifest.rows
    log.result(
        f"{args.file}: {rows['dataset']} data sets, {rows['image']} images, {rows['change']} "
        f"changes, {len(manifest.members)} files; read back and checked"
    )
    return 0
