"""See what training will see: `python -m imgcls.browse --config=configs/own.py:data=folder:/my`.

Writes a page of the first examples in the order of training: as they are in the dataset, after the
transforms of the config (both views, if it has two), after the batch transforms with their mixed
labels, and as evaluation sees them; then every transform of one example in turn. Nothing is trained
and nothing else is written. `--config.section.key=value` overrides a key, as in training.
"""

import os
import pathlib

from imgcls.browse import page
from imgcls.browse.examples import Examples, read_examples
from imgcls.core import cli, errors, log
from imgcls.core import config as config_lib
from imgcls.core.errors import ConfigError
from imgcls.core.storage import replace_text


class Page:
    """A page of examples; a notebook shows it.

    Args:
      examples: what it shows.
      text: the page.

    Attributes:
      examples: what it shows.
      text: the page as HTML.
    """

    def __init__(self, examples: Examples, text: str):
        self.examples, self.text = examples, text

    def __repr__(self) -> str:
        return f"Page({len(self.examples.shown)} examples of {self.examples.source})"

    def _repr_html_(self) -> str:
        return page.in_frame(self.text)


def main(argv: list[str] | None = None) -> int:
    """Writes the page that the flags describe."""
    parser = cli.create_parser("browse", __doc__)
    add = parser.add_argument
    add("--config", required=True, metavar="FILE[:ARG=VALUE,...]")
    add("--out", default="browse.html", metavar="FILE", help="the page (default: %(default)s)")
    add("--examples", type=int, default=16, metavar="N", help="number (default: %(default)s)")
    add("--example", type=int, default=0, metavar="I", help="the one whose stages are shown")
    args, overrides = parser.parse_known_args(argv)
    config = config_lib.override(config_lib.load(args.config), overrides)
    found = show(config, args.examples, args.example)
    path = pathlib.Path(args.out).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, found.text)
    except OSError as e:
        raise ConfigError(f"--out={args.out}: can't be written: {errors.one_line(e)}") from e
    log.result(str(path))
    return 0


def browse(
    config: config_lib.Config,
    *,
    out: str | os.PathLike | None = None,
    examples: int = 16,
    example: int = 0,
    **overrides,
) -> Page:
    """Shows what training will see, as `python -m imgcls.browse` does.

    Args:
      config: see `imgcls.api.train.train`.
      out: file of the page; None writes none.
      examples: number of examples.
      example: position of the example whose stages are shown.
      **overrides: keys of the config and their values, `**{'section.key': value}`.

    Raises:
      ConfigError: a setting of the data that can't work.
    """
    settings = config_lib.assign(config_lib.read_config(config), overrides)
    found = show(settings, examples, example)
    if out is not None:
        replace_text(pathlib.Path(out).expanduser(), found.text)
    return found


def show(config, count: int, chosen: int) -> Page:
    """The page of the first examples of a complete config."""
    if count < 1:
        raise ConfigError(f"--examples={count}: must be 1 or more")
    if chosen < 0:
        raise ConfigError(f"--example={chosen}: must be 0 or more")
    found = read_examples(config, count, chosen)
    return Page(found, page.write(found, config))


if __name__ == "__main__":
    cli.run(main)
