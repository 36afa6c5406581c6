"""Find a learning rate and a batch size: `python -m imgcls.tune --config=digits`.

The learning rate rises from step to step until the loss diverges; the suggestion is the rate at
which the loss falls fastest. Batch sizes are doubled until memory runs out or larger ones are no
faster. `--only=learning_rate` or `--only=batch_size` finds one of them. Nothing is changed, and
nothing is written but the files of `--html` and `--png`.
"""

import dataclasses
import os
import pathlib

from imgcls.core import cli, errors, log
from imgcls.core import config as config_lib
from imgcls.core.errors import ConfigError
from imgcls.core.storage import replace_bytes
from imgcls.tune import batch_size, learning_rate, page
from imgcls.tune.batch_size import Size
from imgcls.tune.learning_rate import RateCurve

PARTS = ("learning_rate", "batch_size")


@dataclasses.dataclass(frozen=True)
class Suggestions:
    """What was found.

    Attributes:
      learning_rate: value for `optim.learning_rate`; None if not searched, or if no rate lowers
        the loss.
      batch_size: value for `batch_size`; None if not searched.
      curve: losses over the learning rates.
      sizes: batch sizes with their images/s.
    """

    learning_rate: float | None
    batch_size: int | None
    curve: RateCurve | None
    sizes: list[Size] | None

    def __repr__(self) -> str:
        parts = []
        if self.curve is not None:
            rate = self.learning_rate
            found = "none: the loss falls at no rate; try --high, --low or --steps"
            found = found if rate is None else f"--config.optim.learning_rate={rate}"
            parts.append(f"{page.rates_to_text(self.curve)}\nsuggestion: {found}")
        if self.sizes is not None:
            found = f"--config.batch_size={self.batch_size}"
            parts.append(f"{page.sizes_to_text(self.sizes)}\nsuggestion: {found}")
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        return page.write(self.curve, self.sizes, self.batch_size)


def main(argv: list[str] | None = None) -> int:
    """Prints the curves and the suggestions."""
    parser = cli.create_parser("tune", __doc__)
    add = parser.add_argument
    add("--config", required=True, metavar="FILE[:ARG=VALUE,...]")
    add("--only", metavar="PART", help=" | ".join(PARTS) + " (default: both)")
    add("--low", type=float, default=1e-6, metavar="X", help="first learning rate")
    add("--high", type=float, default=10.0, metavar="X", help="last learning rate")
    add("--steps", type=int, default=120, metavar="N", help="steps with a rising rate")
    add("--smallest", type=int, default=8, metavar="N", help="first batch size")
    add("--largest", type=int, default=4096, metavar="N", help="last batch size")
    add("--html", metavar="FILE", help="write a page")
    add("--png", metavar="FILE", help="write the curve of the learning rates")
    args, overrides = parser.parse_known_args(argv)
    cli.require_output()
    config = config_lib.override(config_lib.load(args.config), overrides)
    options = {k: v for k, v in vars(args).items() if k != "config"}
    log.result(repr(tune(config, **options)))
    return 0


def tune(
    config: config_lib.Config,
    *,
    only: str | None = None,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 120,
    smallest: int = 8,
    largest: int = 4096,
    html: str | os.PathLike | None = None,
    png: str | os.PathLike | None = None,
    **overrides,
) -> Suggestions:
    """Finds a learning rate and a batch size, as `python -m imgcls.tune` does.

    Args:
      config: see `imgcls.api.train.train`.
      only: 'learning_rate' or 'batch_size'; None is both.
      low, high: learning rates between which the test goes, in `steps` steps.
      steps: number of steps of the test.
      smallest, largest: batch sizes between which sizes are doubled.
      html: file of a page to write.
      png: file of a picture of the learning rates to write.
      **overrides: keys of the config and their values, `**{'section.key': value}`.

    Raises:
      ConfigError: a setting that can't work.
    """
    if only is not None and only not in PARTS:
        near = errors.did_you_mean(only, PARTS)
        raise ConfigError(f"--only={only}: unknown{near}; valid: {', '.join(PARTS)}")
    if png is not None and only == "batch_size":
        raise ConfigError(
            f"--png={png}: is the curve of the learning rates, which --only leaves out"
        )
    settings = config_lib.assign(config_lib.read_config(config), overrides)
    curve = sizes = None
    if only != "batch_size":
        curve = learning_rate.find_learning_rate(settings, low, high, steps)
    if only != "learning_rate":
        sizes = batch_size.find_batch_size(settings, smallest, largest)
    rate = None if curve is None else curve.suggestion
    size = None if sizes is None else batch_size.suggest(sizes)
    if html is not None:
        _write(html, page.write(curve, sizes, size).encode(), "html")
    if png is not None and curve is not None:
        _write(png, page.picture(curve), "png")
    return Suggestions(rate, size, curve, sizes)


def _write(file: str | os.PathLike, data: bytes, flag: str) -> None:
    path = pathlib.Path(file).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, data)
    except OSError as e:
        raise ConfigError(f"--{flag}={file}: can't be written: {errors.one_line(e)}") from e


if __name__ == "__main__":
    cli.run(main)
