"""Rebuild all tags, labels and statuses from the history of a home, and compare with its tables.

The exit code is 0 if they agree and all files are there, and 1 otherwise. Nothing is changed.
"""

import argparse
import hashlib
import pathlib

import sqlalchemy as sa

from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.studio.home import Home
from imgcls.studio.store.check import check
from imgcls.studio.store.connect import Database
from imgcls.studio.store.schema import image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add("--home", required=True, metavar="DIR", help="the home to check")
    add("--database", default="", metavar="URL", help="postgresql://... instead of SQLite in DIR")
    add("--files", action="store_true", help="read all files, too, and compare their hashes")


def run(args: argparse.Namespace) -> int:
    """Prints what differs; returns the exit code."""
    if not pathlib.Path(args.home).expanduser().is_dir():
        raise ConfigError(f"--home={args.home}: there is no such directory")
    count, problems = find_problems(Home(args.home, args.database), args.files)
    for line in problems:
        log.result(line)
    log.result(f"{count:,} images, {len(problems) or 'no'} problems")
    return int(bool(problems))


def find_problems(home: Home, read: bool = False) -> tuple[int, list[str]]:
    """The number of images of a home, and a line for each thing that is wrong with it.

    Args:
      home: to check; nothing of it is changed.
      read: read all files, and compare their hashes.
    """
    database = Database(home.database_url)
    try:
        with database.read() as connection:
            problems = check(connection)
            query = sa.select(image.c.id, image.c.sha256, image.c.extension, image.c.path)
            rows = connection.execute(query.order_by(image.c.id)).all()
    finally:
        database.close()
    for row in rows:
        path = pathlib.Path(row.path) if row.path else home.picture(row.sha256, row.extension)
        problems += _file_problems(row.id, path, row.sha256, read)
    return len(rows), problems


def _file_problems(image_id: int, path: pathlib.Path, sha256: str, read: bool) -> list[str]:
    if not path.is_file():
        return [f"image {image_id}: {path} is missing; restore a backup"]
    if read:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return [f"image {image_id}: {path} has changed; restore a backup"]
    return []
