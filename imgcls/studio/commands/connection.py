"""The flags of the commands that talk to a studio that is served."""

import argparse
import os

from imgcls.core.errors import ConfigError, did_you_mean
from imgcls.studio.client import Client

TOKEN = "IMGCLS_STUDIO_TOKEN"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--url`, `--token` and `--dataset`."""
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8765", help="of the studio (default: %(default)s)")
    add("--token", default="", help=f"of a user (default: the environment's {TOKEN})")
    add("--dataset", required=True, metavar="NAME", help="name or number of the data set")


def connect(args: argparse.Namespace) -> Client:
    """A client for the flags."""
    return Client(args.url, args.token or os.environ.get(TOKEN, ""))


def find_dataset(client: Client, wanted: str) -> int:
    """The number of the data set of a name, or of a number.

    Raises:
      ConfigError: there is none.
    """
    known = client.datasets()
    for row in known:
        if row["name"] == wanted:
            return row["id"]
    if wanted.isdecimal() and any(row["id"] == int(wanted) for row in known):
        return int(wanted)
    names = [row["name"] for row in known]
    near = did_you_mean(wanted, names) or f"; there are {', '.join(names[:10]) or 'none'}"
    raise ConfigError(f"--dataset={wanted}: there is no such data set{near}")
