"""All commands in one: `imgcls COMMAND ...`, or `python -m imgcls COMMAND ...`."""

import importlib
import sys

from imgcls.core import cli
from imgcls.core.errors import ConfigError, did_you_mean

# `{command: (module, what it does)}`. Modules are imported when their command is given.
COMMANDS = {
    "train": ("imgcls.main", "train a model, or continue an interrupted run"),
    "evaluate": ("imgcls.evaluate.__main__", "metrics of a checkpoint as JSON"),
    "predict": ("imgcls.predict.__main__", "classify images with a checkpoint"),
    "report": ("imgcls.report.__main__", "a page that shows what a run learned and got wrong"),
    "audit": ("imgcls.audit.__main__", "a page that shows what is wrong with a dataset"),
    "studio": ("imgcls.studio.__main__", "upload, tag, train and look, in a browser"),
    "compare": ("imgcls.compare.__main__", "a table and a page of several runs"),
    "sweep": ("imgcls.sweep.__main__", "search settings in many runs"),
    "tune": ("imgcls.tune.__main__", "suggest a learning rate and a batch size"),
    "browse": ("imgcls.browse.__main__", "a page of what training will see"),
    "export": ("imgcls.export.__main__", "write a model as safetensors, StableHLO or ONNX"),
    "convert": ("imgcls.convert", "write a dataset as ArrayRecord files"),
    "prepare": ("imgcls.prepare", "prepare a TFDS dataset"),
    "bench": ("imgcls.bench.__main__", "measure the speed of a config on this machine"),
    "models": ("imgcls.models.__main__", "models with their size, cost and published accuracy"),
    "list": ("imgcls.list", "losses, transforms, optimizers, ... with their options"),
}


def usage() -> str:
    """The help of the command itself."""
    lines = [f"  {name:<10}{about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        ["usage: imgcls COMMAND [ARGUMENTS]", "", *lines, "", "imgcls COMMAND --help shows more."]
    )


def dispatch(arguments: list[str]) -> int | None:
    """Runs a command with its arguments; returns its exit code.

    Raises:
      ConfigError: unknown command.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        raise ConfigError(
            f"unknown command {name!r}{did_you_mean(name, COMMANDS)}; "
            f"write one of {', '.join(COMMANDS)}"
        )
    cli.set_program(f"imgcls {name}")
    return importlib.import_module(COMMANDS[name][0]).main(rest)


def main() -> None:
    """Entry point of the `imgcls` command."""
    cli.run(lambda: dispatch(sys.argv[1:]))


if __name__ == "__main__":
    main()
