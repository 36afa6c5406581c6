"""Train a model: `python -m imgcls.main --config=configs/digits.py --workdir=/tmp/digits`.

`--config.section.key=value` overrides a key of the config. The same command again resumes a run
that was interrupted.

The keys are listed in imgcls/core/defaults.py and the recipes in docs/recipes.md. A recipe's file,
such as configs/own.py, lists its arguments: `--config=FILE:ARG=VALUE,...`.
"""

import argparse
import traceback

import imgcls
from imgcls.core import cli, config
from imgcls.core.errors import EXIT_AGAIN, EXIT_CRASH, ConfigError, UserError
from imgcls.distributed import processes
from imgcls.distributed.cluster import find_place
from imgcls.train.loop import train
from imgcls.train.start_clock import StartClock


def main(argv: list[str] | None = None) -> int:
    """Flags -> config -> train."""
    parser = cli.create_parser("main", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE[:ARG=VALUE,...]")
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="directory for checkpoints and logs"
    )
    parser.add_argument(
        "--accept_changes", action="store_true", help="resume a run whose config has changed"
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    parser.add_argument("--num_processes", type=int, metavar="N", help="number of processes")
    parser.add_argument("--process_id", type=int, metavar="I", help="index of this one, from 0")
    parser.add_argument("--data", help=argparse.SUPPRESS)
    args, overrides = parser.parse_known_args(argv)
    if args.data is not None:
        raise ConfigError(
            f"--data={args.data}: write --config=configs/own.py:data={args.data}, or "
            f"--config.data.source={args.data} for any recipe"
        )
    settings = config.override(config.load(args.config), overrides)
    place = find_place(args.coordinator, args.num_processes, args.process_id)
    clock = StartClock(imgcls.BEGAN)
    clock.lap("imports")
    try:
        with processes.session(place, settings.processes.timeout, settings.processes.stall):
            done = train(settings, args.workdir, args.accept_changes, clock)
    except UserError:
        raise
    except Exception:
        traceback.print_exc()
        return EXIT_CRASH
    return EXIT_AGAIN if done is None else 0


if __name__ == "__main__":
    cli.run(main)
