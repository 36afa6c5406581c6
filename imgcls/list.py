"""List the names for a config: `python -m imgcls.list losses`.

Without a kind, lists the names of all kinds. With one, lists each name with a summary, its options
and their defaults. Options without a default are required.
"""

import inspect

from imgcls.core import cli
from imgcls.core.plugins import load_plugin
from imgcls.core.registry import Registry
from imgcls.data.formats.format import FORMATS
from imgcls.data.sources.source import SOURCES
from imgcls.data.transforms.transform import BATCH_TRANSFORMS, TRANSFORMS
from imgcls.evaluate.evaluator import EVALUATORS
from imgcls.losses.registry import LOSSES
from imgcls.models.registry import MODELS
from imgcls.objectives.objective import OBJECTIVES
from imgcls.train.optim import OPTIMIZERS
from imgcls.train.schedule import SCHEDULES

KINDS: dict[str, Registry] = {
    "models": MODELS,
    "losses": LOSSES,
    "objectives": OBJECTIVES,
    "transforms": TRANSFORMS,
    "batch_transforms": BATCH_TRANSFORMS,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "evaluators": EVALUATORS,
    "sources": SOURCES,
    "formats": FORMATS,
}


def describe(registry: Registry, name: str) -> str:
    """Describes a part: its name, its options with their defaults, and its summary."""
    options = (
        option if default is inspect.Parameter.empty else f"{option}={default!r}"
        for option, default in registry.options(name).items()
    )
    return f"{name}({', '.join(options)})\n    {registry.summary(name)}"


def main(argv: list[str] | None = None) -> int:
    """Flags -> list."""
    parser = cli.create_parser("list", __doc__)
    parser.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "--plugins", default="", metavar="FILE_OR_MODULE,...", help="plugins to import first"
    )
    args = parser.parse_args(argv)
    cli.require_output()
    for plugin in filter(None, args.plugins.split(",")):
        load_plugin(plugin)
    if args.kind is None:
        for kind, registry in KINDS.items():
            print(f"{kind} ({len(registry)}): {', '.join(registry)}")
        return 0
    registry = KINDS[args.kind]
    for name in registry:
        print(describe(registry, name))
    return 0


if __name__ == "__main__":
    cli.run(main)
