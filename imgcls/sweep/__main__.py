"""Search settings: `python -m imgcls.sweep --config=digits --study=/runs/lr 'seed=range(5)' ...`.

Each further argument is a key of the config and its range:

  'optim.learning_rate=log(1e-4,1e-1)'   from 0.0001 to 0.1, evenly on a logarithmic scale
  'model.dropout=float(0,0.5)'           evenly; a third value is a number of points: log(1e-4,1,5)
  'batch_size=int(32,256)'               whole numbers, both ends included; a third is the step
  'seed=range(5)'                        0 to 4, as in Python
  'model.name=choice(resnet18,vit_s16)'  one of these

Each trial is a workdir DIR/trial-00000, ..., trained by a process of its own. The same command
continues a sweep, and the same command again, on this or another machine, is one more worker. A
trial whose worker was killed is continued from its checkpoint. `--config.KEY=VALUE` sets a key of
all trials. Prints the table of the trials, the best first; needs the extra `sweep`.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from imgcls.core import cli, errors, log
from imgcls.core import config as config_lib
from imgcls.core.errors import EXIT_AGAIN, ConfigError
from imgcls.core.storage import replace_text
from imgcls.sweep import space as spaces

if TYPE_CHECKING:
    from imgcls.sweep.results import Results

SAMPLERS, PRUNERS = ("tpe", "random", "grid"), ("none", "median", "halving")


def main(argv: list[str] | None = None) -> int:
    """Runs the sweep that the arguments describe."""
    parser = cli.create_parser("sweep", __doc__)
    add = parser.add_argument
    add("space", nargs="*", metavar="KEY=RANGE", help="keys to search and their ranges")
    add("--config", required=True, metavar="FILE[:ARG=VALUE,...]")
    add("--study", required=True, metavar="DIR", help="folder, sqlite:///FILE or postgresql://...")
    add("--workdir", metavar="DIR", help="folder of the trials, if the study is in a database")
    add("--trials", type=int, metavar="N", help="number of trials (default of a grid: all points)")
    add("--metric", metavar="NAME", help="such as val/accuracy (default: checkpoint.keep_best)")
    add("--sampler", default="tpe", metavar="NAME", help=" | ".join(SAMPLERS) + " (default: tpe)")
    add("--pruner", default="none", metavar="NAME", help=" | ".join(PRUNERS) + " (default: none)")
    add("--seed", type=int, default=0, metavar="N", help="of the sampler (default: 0)")
    add("--html", metavar="FILE", help="write a page of the trials")
    args, overrides = parser.parse_known_args(argv)
    cli.require_output()
    config = config_lib.override(config_lib.load(args.config), overrides)
    found = _sweep(
        config,
        args.study,
        args.space,
        trials=args.trials,
        metric=args.metric,
        workdir=args.workdir,
        sampler=args.sampler,
        pruner=args.pruner,
        seed=args.seed,
        html=args.html,
    )
    log.result(str(found))
    if not found.is_complete:
        return EXIT_AGAIN
    return 0 if found.best is not None else 1


def sweep(
    config: config_lib.Config,
    study: str | os.PathLike,
    space: Mapping[str, object] | Iterable[str],
    *,
    trials: int | None = None,
    metric: str | None = None,
    workdir: str | os.PathLike | None = None,
    sampler: str = "tpe",
    pruner: str = "none",
    seed: int = 0,
    html: str | os.PathLike | None = None,
    **overrides,
) -> "Results":
    """Searches settings, or continues a search, as `python -m imgcls.sweep` does.

    >>> imgcls.sweep(
    ...     "digits", "/runs/lr", {"optim.learning_rate": "log(1e-4,1e-1)"}, trials=20,
    ...     metric="test/accuracy",
    ... )

    Args:
      config: see `imgcls.api.train.train`.
      study: folder of the trials, or URL of a database: `sqlite:///FILE` or `postgresql://...`.
      space: `{key: range}` with a range as in the command, a list of values or a `range`.
      trials: number of trials, those before included; None is all points of a grid.
      metric: `EVALUATOR/METRIC` to rank trials by its last value; None is `checkpoint.keep_best`.
      workdir: folder of the trials if the study is in a database.
      sampler: 'tpe' (Bergstra et al. 2011), 'random' or 'grid'.
      pruner: 'none', 'median' or 'halving' (Li et al. 2018, arXiv:1810.05934): ends trials by their
        evaluations so far.
      seed: of the sampler.
      html: file of a page to write.
      **overrides: keys of the config and their values, `**{'section.key': value}`.

    Returns:
      The trials. An interrupt returns those so far; the same call continues.

    Raises:
      ConfigError: a setting that can't work; no trial has begun then.
    """
    settings = config_lib.assign(config_lib.read_config(config), overrides)
    texts = spaces.read_mapping(space)
    place, folder = os.fspath(study), None if workdir is None else os.fspath(workdir)
    return _sweep(
        settings,
        place,
        texts,
        trials=trials,
        metric=metric,
        workdir=folder,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        html=html,
    )


def _sweep(
    config: ConfigDict,
    study: str,
    texts: list[str],
    *,
    trials: int | None,
    metric: str | None,
    workdir: str | None,
    sampler: str,
    pruner: str,
    seed: int,
    html: str | os.PathLike | None,
) -> "Results":
    space = spaces.read_space(texts)
    spaces.check_keys(config, space)
    metric = metric or config.checkpoint.keep_best
    if metric is None:
        raise ConfigError("--metric: name the metric to rank trials by, such as test/accuracy")
    if trials is not None and trials < 1:
        raise ConfigError(f"--trials={trials}: must be above 0")
    for flag, value, valid in (("sampler", sampler, SAMPLERS), ("pruner", pruner, PRUNERS)):
        if value not in valid:
            near = errors.did_you_mean(value, valid)
            raise ConfigError(f"--{flag}={value}: unknown{near}; valid: {', '.join(valid)}")
    _require_extra()
    from imgcls.sweep import page, results, worker
    from imgcls.sweep.study import Plan, Study, place_of

    url, folder = place_of(study, workdir)
    opened = Study(Plan(config, space, trials, metric, sampler, pruner, seed), url, folder)
    worker.work(opened)
    found = results.read(opened)
    if html is not None:
        _write(html, page.write(opened, found))
    return found


def _require_extra() -> None:
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as e:
        raise ConfigError(
            f"sweeps need {e.name}; install it with pip install 'imgcls[sweep]', or "
            "pip install -r requirements-sweep.txt"
        ) from e


def _write(file: str | os.PathLike, text: str) -> None:
    path = pathlib.Path(file).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as e:
        raise ConfigError(f"--html={file}: can't be written: {errors.one_line(e)}") from e


if __name__ == "__main__":
    cli.run(main)
