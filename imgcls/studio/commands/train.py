"""Train on a version of a data set of a studio, and wait for the end.

    imgcls studio train --dataset=pets --recipe=own --set=batch_size=32 size=32 epochs=10

Arguments of the recipe are written NAME=VALUE. Ctrl-C leaves the run going; it can be stopped and
continued in the page.
"""

import argparse
from typing import Any

from imgcls.core import log
from imgcls.core.errors import ConfigError
from imgcls.studio.commands.connection import add_flags, connect, find_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_flags(parser)
    add = parser.add_argument
    add("--recipe", default="own", help="name of a recipe (default: own)")
    add("--version", type=int, help="number of a version (default: what is tagged now)")
    add("--no_wait", action="store_true", help="start the run, print its number and end")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the config")
    add("arguments", nargs="*", metavar="NAME=VALUE", help="arguments of the recipe")


def run(args: argparse.Namespace) -> int:
    """Starts a run and shows its progress."""
    with connect(args) as client:
        dataset = find_dataset(client, args.dataset)
        arguments, config = _pairs(args.arguments, ""), _pairs(args.set, "--set=")
        number = client.train(dataset, args.recipe, arguments, config, args.version)
        log.result(f"run {number}")
        if args.no_wait:
            return 0
        ended = client.wait(number, _show)
        for key, value in ended["metrics"].items():
            if "/" in key and isinstance(value, float):
                log.result(f"{key} {value:.4f}")
    return 0 if ended["state"] == "done" else 1


def _pairs(words: list[str], flag: str) -> dict[str, str]:
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{flag}{word}: not understood; write NAME=VALUE")
        pairs[key] = value
    return pairs


def _show(run: dict[str, Any]) -> None:
    total = f"/{run['total']}" if run["total"] else ""
    step = f", step {run['step']}{total}" if run["step"] is not None else ""
    log.info(f"{run['state']}{step}")
