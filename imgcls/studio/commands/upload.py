"""Send files and directories to a studio.

The images of a directory keep their relative folders. Duplicates and files that can't be read are
named; the exit code is 1 if there are any of the latter.
"""

import argparse
import os

from tqdm import tqdm

from imgcls.core import log
from imgcls.core.errors import ConfigError, did_you_mean
from imgcls.studio.client import Client


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="files, directories and zips")
    add("--dataset", required=True, metavar="NAME", help="data set; it is made if there is none")
    add("--kind", default="single", choices=("single", "multi"), help="of a new data set")
    add("--url", default="http://127.0.0.1:8765", help="of the studio (default: this machine's)")
    add("--token", default="", help="of a user (default: $IMGCLS_STUDIO_TOKEN)")


def run(args: argparse.Namespace) -> int:
    """Uploads and prints what became of it; returns the exit code."""
    token = args.token or os.environ.get("IMGCLS_STUDIO_TOKEN", "")
    with Client(args.url, token) as client:
        known = {entry["name"]: entry["id"] for entry in client.datasets()}
        dataset = known.get(args.dataset)
        if dataset is None:
            if client.me()["role"] != "owner":
                near = did_you_mean(args.dataset, known)
                raise ConfigError(f"--dataset={args.dataset}: there is none{near}")
            dataset = client.create_dataset(args.dataset, kind=args.kind)
        with tqdm(unit=" files", disable=None) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            result = client.upload(dataset, args.paths, show)
    for entry in result["duplicates"]:
        log.result(f"{entry['name']}: the same as {entry['same_as']}")
    for entry in result["unreadable"]:
        log.result(f"{entry['name']}: not added: {entry['why']}")
    counts = {name: len(entries) for name, entries in result.items()}
    log.result(
        f"{counts['added']:,} added, {counts['duplicates']:,} duplicates, "
        f"{counts['unreadable']:,} unreadable"
    )
    return int(bool(result["unreadable"]))
