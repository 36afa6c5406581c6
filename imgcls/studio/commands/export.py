"""Write a version of a data set of a studio as a zip: a manifest, Darwin JSON, COCO and others.

imgcls studio export --dataset=pets --format=darwin --out=pets.zip
"""

import argparse

from imgcls.core import log
from imgcls.studio.commands.connection import add_flags, connect, find_dataset
from imgcls.studio.exchange.write import FORMATS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_flags(parser)
    add = parser.add_argument
    add("--format", default="manifest", choices=tuple(FORMATS), help="default: %(default)s")
    add("--version", type=int, help="number of a version (default: what is tagged now)")
    add("--out", required=True, metavar="FILE", help="the zip that is written")
    add("--no_images", action="store_true", help="the labels alone")


def run(args: argparse.Namespace) -> int:
    """Exports a version."""
    with connect(args) as client:
        dataset = find_dataset(client, args.dataset)
        version = args.version or client.freeze(dataset)["id"]
        path = client.export(version, args.format, args.out, images=not args.no_images)
    log.result(f"{path}: version {version} as {FORMATS[args.format].about}")
    return 0
