"""Measure how fast a config runs on this machine, with the trainer's own parts.

    python -m imgcls.bench --config=configs/digits.py --what=step

--what=input    images/s of the training input alone, and whether its memory grows
       eval     images/s of the evaluation input
       step     time, FLOPs and memory of the compiled step, alone and fed by the loader
       startup  seconds to the first step, without and with the compile cache
       all      all of these (default)

It writes only to a temporary directory, and the results to the file given by --json.
"""

import contextlib
import json
import math
import os
import sys

import jax
from ml_collections import ConfigDict

from imgcls.bench.inputs import Section, measure_eval, measure_input
from imgcls.bench.startup import measure_startup
from imgcls.bench.steps import measure_step
from imgcls.core import cli, config, errors
from imgcls.core.errors import ConfigError
from imgcls.core.plugins import load_plugins

WHAT = ("input", "eval", "step", "startup", "all")
Report = dict[str, Section]


def measure(settings: ConfigDict, what: str, steps: int, arguments: list[str]) -> Report:
    """Measures a config; returns the results by section and name, to four significant digits.

    Args:
      settings: the config.
      what: one of `WHAT`.
      steps: number of timed steps or batches.
      arguments: command-line arguments that give the config, for the processes of `startup`.
    """
    wanted = WHAT[:-1] if what == "all" else (what,)
    # First, since the processes it starts need the accelerator, which this process takes later.
    startup = measure_startup(arguments) if "startup" in wanted else None
    report: Report = {"machine": describe_machine(settings)}
    if startup:
        report["startup"] = {**startup}
    if "input" in wanted:
        report["input"] = measure_input(settings, steps)
    if "eval" in wanted:
        report["eval"] = measure_eval(settings, steps)
    if "step" in wanted:
        report |= measure_step(settings, steps)
    return {
        section: {name: round_number(value) for name, value in numbers.items()}
        for section, numbers in report.items()
    }


def describe_machine(settings: ConfigDict) -> Section:
    """Returns the machine, the versions and the main settings that the results hold for."""
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cores": os.cpu_count() or 1,
        "jax": jax.__version__,
        "model": settings.model.name,
        "dtype": settings.model.dtype,
        "batch size": settings.batch_size,
    }


def round_number(value):
    """Rounds a float to four significant digits; returns anything else unchanged."""
    if not isinstance(value, float) or not value or not math.isfinite(value):
        return value
    return round(value, 3 - math.floor(math.log10(abs(value))))


def to_table(report: Report) -> str:
    """Formats the results as text: a line for each number, by section."""
    lines = []
    for section, numbers in report.items():
        for name, value in numbers.items():
            lines.append(f"{section:<10}{name:<46}{_text(value):>14}")
            section = ""
    return "\n".join(lines)


def _text(value) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(argv: list[str] | None = None) -> int:
    """Measures a config, and prints the results as a table and as JSON; returns the exit code."""
    parser = cli.create_parser("bench", __doc__)
    parser.add_argument(
        "--config", required=True, metavar="FILE[:ARG=VALUE,...]", help="config file"
    )
    parser.add_argument(
        "--what", default="all", metavar="|".join(WHAT), help="what to measure (default: all)"
    )
    parser.add_argument(
        "--steps", type=int, default=30, help="number of timed steps (default: %(default)s)"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the results as JSON; - is the standard output"
    )
    args, overrides = parser.parse_known_args(argv)
    if args.json in (None, "-"):
        cli.require_output()
    if args.what not in WHAT:
        raise ConfigError(f"--what={args.what}: unknown; write one of {', '.join(WHAT)}")
    if args.steps < 1:
        raise ConfigError(f"--steps={args.steps}: must be 1 or more")
    if args.json and not os.path.isdir(os.path.dirname(args.json) or "."):
        raise ConfigError(f"--json={args.json}: no such directory")
    settings = config.override(config.load(args.config), overrides)
    if settings.auto.minutes is not None:
        raise ConfigError(
            f"--config={args.config}: chooses its settings when a run starts, from the time of its "
            "steps; set them, for example --config=configs/own.py:data=SOURCE,size=32,epochs=30"
        )
    load_plugins(settings)
    with contextlib.redirect_stdout(sys.stderr):
        arguments = [f"--config={args.config}", *overrides]
        report = measure(settings, args.what, args.steps, arguments)
    text = json.dumps(report, indent=2)
    if args.json == "-":
        print(to_table(report), file=sys.stderr)
        print(text)
        return 0
    if args.json:
        try:
            with open(args.json, "w") as file:
                file.write(text + "\n")
        except OSError as e:
            raise ConfigError(f"--json={args.json}: {errors.one_line(e)}") from e
    print(to_table(report))
    return 0


if __name__ == "__main__":
    cli.run(main)
