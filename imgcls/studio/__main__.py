"""The studio: upload, create classes, tag, train and look, in a browser and by API.

`imgcls studio --home=DIR` serves the data sets of one directory on this machine.
`imgcls studio COMMAND --help` shows a command.
"""

import importlib

from imgcls.core import cli
from imgcls.core.errors import ConfigError, did_you_mean

# `{command: (module, what it does)}`. A module has `add_arguments(parser)` and `run(args)`, which
# returns the exit code, and is imported when its command is given.
COMMANDS = {
    "serve": ("imgcls.studio.commands.serve", "serve a home; what happens without a command"),
    "check": ("imgcls.studio.commands.check", "rebuild all tags from the history and compare"),
    "upload": ("imgcls.studio.commands.upload", "send the images of a directory to a studio"),
    "user": ("imgcls.studio.commands.user", "add, list and remove users and their tokens"),
    "import": ("imgcls.studio.commands.import_", "add images and tags from a file of labels"),
    "export": ("imgcls.studio.commands.export", "write a version of a data set"),
    "train": ("imgcls.studio.commands.train", "train on a version of a data set"),
    "backup": ("imgcls.studio.commands.backup", "write a copy of a home, also while it is served"),
    "restore": ("imgcls.studio.commands.restore", "make a home from a backup, and check it"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs a command of the studio; returns its exit code.

    Raises:
      ConfigError: unknown command, or the extra `studio` is not installed.
    """
    import sys

    words = list(sys.argv[1:] if argv is None else argv)
    name = words.pop(0) if words and not words[0].startswith("-") else "serve"
    if name not in COMMANDS:
        raise ConfigError(
            f"unknown command {name!r}{did_you_mean(name, COMMANDS)}; "
            f"write one of {', '.join(COMMANDS)}"
        )
    try:
        module = importlib.import_module(COMMANDS[name][0])
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("imgcls"):
            raise
        raise ConfigError(
            f"the studio needs {e.name}; install it with pip install 'imgcls[studio]', "
            "or pip install -r requirements-studio.txt"
        ) from e
    commands = "\n".join(f"  {name:<10}{about}" for name, (_, about) in COMMANDS.items())
    about = f"{__doc__}\ncommands:\n{commands}\n" if name == "serve" else module.__doc__
    parser = cli.create_parser("studio", about)
    if name != "serve":
        parser.prog += f" {name}"
    module.add_arguments(parser)
    return module.run(parser.parse_args(words))


if __name__ == "__main__":
    cli.run(main)
