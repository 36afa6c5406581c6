"""Add tags, and images that come along, to a data set of a studio.

    imgcls studio import --dataset=pets labels.csv

The file is a manifest (.csv, .tsv, .jsonl), Darwin JSON 2.0, Label Studio's JSON or COCO, or a zip
of one of them with its images, or of a folder per class. The format is found by the content.
"""

import argparse

from imgcls.core import log
from imgcls.studio.commands.connection import add_flags, connect, find_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_flags(parser)
    parser.add_argument("file", metavar="FILE", help="the file of labels, or the zip")
    parser.add_argument(
        "--splits", action="store_true", help="also move tagged images to the splits of the file"
    )


def run(args: argparse.Namespace) -> int:
    """Imports a file; the exit code is 1 if something of it fits no image."""
    with connect(args) as client:
        found = client.import_file(find_dataset(client, args.dataset), args.file, args.splits)
    log.result(
        f"{found['format']}: {found['images']:,} images, {found['added']:,} of them new, "
        f"{found['tagged']:,} tagged, {found['classes']:,} new classes"
    )
    for key in ("unmatched", "problems"):
        for entry in found[key]:
            log.result(f"{key}: {entry}")
    for entry in found["unreadable"]:
        log.result(f"unreadable: {entry['name']}: {entry['why']}")
    return int(any(found[key] for key in ("unmatched", "problems", "unreadable")))
