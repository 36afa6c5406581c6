"""The trials of a sweep: an Optuna study that any number of workers take trials from.

A trial belongs to the worker that holds the lock on its workdir. A worker takes a trial under the
lock of the whole sweep: first one that is begun and that nobody holds, as its worker was killed,
else a new one. So no trial is lost and none is begun twice.
"""

import dataclasses
import json
import pathlib
import pprint
from collections.abc import Callable

import optuna
from ml_collections import ConfigDict
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from imgcls.core import config as config_lib
from imgcls.core.defaults import is_harmless
from imgcls.core.errors import ConfigError, one_line
from imgcls.core.storage import is_local, replace_text
from imgcls.runs.best import BestMetric
from imgcls.sweep.check import find_metric
from imgcls.sweep.locks import FileLock, take_trial
from imgcls.sweep.space import Dimension, checks_of, grid_of

# Ends of a trial; RUNNING and WAITING are the others.
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
# Files in the folder of the sweep.
JOURNAL, LOCK, RECIPE = "study.journal", ".sweep", "recipe.py"
# User attribute of the study with what must not change.
SETTINGS = "imgcls"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep does.

    Attributes:
      config: config of all trials.
      space: keys to search.
      trials: number of trials; None is all points of a grid.
      metric: metric to rank trials by.
      sampler, pruner: names, see `imgcls.sweep.__main__`.
      seed: seed of the sampler. The values of a trial depend on it, its number and, for TPE, on the
        results of the trials before.
    """

    config: ConfigDict
    space: list[Dimension]
    trials: int | None
    metric: str
    sampler: str
    pruner: str
    seed: int


@dataclasses.dataclass
class Claim:
    """A trial that this worker holds.

    Attributes:
      trial: the trial in the study.
      values: `{key: value}` of the searched keys.
      workdir: its workdir.
      lock: lock on the workdir.
      is_continued: whether another worker began it.
    """

    trial: optuna.Trial
    values: dict[str, object]
    workdir: pathlib.Path
    lock: FileLock
    is_continued: bool


class Study:
    """A sweep in its folder, new or to be continued.

    Args:
      plan: what to do.
      url: of the database; None is a journal file in the folder.
      folder: folder of the trials' workdirs, shared by all workers.

    Attributes:
      study: the Optuna study.
      folder: folder of the trials' workdirs.
      metric: the metric that ranks the trials, with its direction.
      total: number of trials.

    Raises:
      ConfigError: a setting that can't work, or a study of another config, space or metric.
    """

    def __init__(self, plan: Plan, url: str | None, folder: pathlib.Path):
        self._plan, self.folder = plan, folder
        self._grid = grid_of(plan.space) if plan.sampler == "grid" else None
        count = len(self._grid) if self._grid is not None else plan.trials
        if count is None:
            raise ConfigError("--trials: name the number of trials; only a grid has one by itself")
        self.total = min(count, plan.trials or count)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / LOCK)
            self._lock.acquire()
        except OSError as e:
            raise ConfigError(f"{folder}: can't be written: {one_line(e)}") from e
        try:
            self.study, self.metric = self._open(url)
        finally:
            self._lock.release()
        self.study.pruner = create_pruner(plan.pruner)

    @property
    def recipe(self) -> pathlib.Path:
        """Config file of the trials."""
        return self.folder / RECIPE

    def _open(self, url: str | None) -> tuple[optuna.Study, BestMetric]:
        """Opens the study and compares its settings, or checks the config and creates it."""
        mine, plan = _settings(self._plan), self._plan
        study = open_study(url, self.folder)
        kept = study.user_attrs.get(SETTINGS) if study else None
        if study is not None and kept is not None:
            _check_same(kept, mine, self.folder)
            if not self.recipe.exists():
                _write_recipe(self.recipe, plan.config)
            return study, BestMetric(kept["name"], kept["better"])
        _write_recipe(self.recipe, plan.config)
        best = find_metric(self.recipe, plan.metric, checks_of(plan.space))
        study = study or open_study(url, self.folder, better=best.better)
        assert study is not None
        study.set_user_attr(SETTINGS, {**mine, "name": best.name, "better": best.better})
        return study, best

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials by number; those in the given states, or all."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def workdir(self, number: int) -> pathlib.Path:
        """Workdir of a trial."""
        return self.folder / f"trial-{number:05d}"

    def is_complete(self) -> bool:
        """Whether all trials have ended."""
        return len(self.trials(*ENDED)) >= self.total and not self.trials(TrialState.RUNNING)

    def claim(self) -> Claim | None:
        """Takes a trial; None if other workers hold all that have not ended."""
        with self._lock.held():
            for begun in self.trials(TrialState.RUNNING):
                if lock := take_trial(self.workdir(begun.number)):
                    self._use_sampler(begun.number)
                    # Optuna makes the trial again from what the study has of it.
                    trial = optuna.trial.Trial(self.study, begun._trial_id)
                    return self._hold(trial, lock, is_continued=True)
            count = len(self.trials())
            is_waiting = bool(self.trials(TrialState.WAITING))
            if count >= self.total and not is_waiting:
                return None
            if self._grid is not None and not is_waiting:
                self.study.enqueue_trial(self._grid[count])
            self._use_sampler(count)
            trial = self.study.ask()
            lock = take_trial(self.workdir(trial.number))
            if lock is None:
                raise ConfigError(
                    f"{self.workdir(trial.number)}: is in use, but not by this sweep; choose "
                    "another --study"
                )
            return self._hold(trial, lock, is_continued=False)

    def _hold(self, trial: optuna.Trial, lock: FileLock, is_continued: bool) -> Claim:
        values: dict[str, object] = {d.key: d.suggest(trial) for d in self._plan.space}
        return Claim(trial, values, self.workdir(trial.number), lock, is_continued)

    def _use_sampler(self, number: int) -> None:
        """Sets the sampler of a trial, which draws the same values whichever worker asks."""
        self.study.sampler = create_sampler(self._plan.sampler, self._plan.seed * 100_003 + number)


def open_study(
    url: str | None, folder: pathlib.Path, better: str | None = None
) -> optuna.Study | None:
    """Opens a study; None if there is none.

    Args:
      url: of a database, `sqlite:///FILE` or `postgresql://...`; None is a journal in the folder.
      folder: folder of the sweep, whose name is that of the study in a database.
      better: creates the study: which values of its metric are better, 'higher' or 'lower'.

    Raises:
      ConfigError: the database can't be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = "sweep" if url is None else folder.name
    try:
        if url is None:
            backend = JournalFileBackend(str(folder / JOURNAL), _JournalLock(folder))
            storage = JournalStorage(backend)
        else:
            storage = RDBStorage(_with_driver(url), engine_kwargs={"pool_pre_ping": True})
        if better is not None:
            direction = "maximize" if better == "higher" else "minimize"
            return optuna.create_study(storage=storage, study_name=name, direction=direction)
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None
    except ConfigError:
        raise
    except Exception as e:  # Drivers of databases raise many types.
        raise ConfigError(f"--study={url or folder}: can't be opened: {one_line(e)[:300]}") from e


class _JournalLock(JournalFileOpenLock):
    """Optuna's lock on its journal; a killed process leaves none behind."""

    def __init__(self, folder: pathlib.Path):
        self._lock = FileLock(folder / ".journal")

    def acquire(self) -> bool:
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


def _with_driver(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in ("sqlite", "postgresql", "postgresql+psycopg"):
        raise ConfigError(
            f"--study={url}: write a directory, sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        )
    return f"postgresql+psycopg://{rest}" if scheme == "postgresql" else url


def create_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler of `--sampler`; points of a grid are set and only need any sampler."""
    if name == "tpe":
        # Trials that run count as bad ones, so that workers do not try the same.
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return optuna.samplers.RandomSampler(seed=seed)


def create_pruner(name: str) -> optuna.pruners.BasePruner:
    """The pruner of `--pruner`."""
    makers: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "halving": optuna.pruners.SuccessiveHalvingPruner,
    }
    return makers[name]()


def _settings(plan: Plan) -> dict[str, object]:
    leaves = config_lib.leaves(plan.config).items()
    kept = {key: value for key, value in leaves if not is_harmless(key)}
    kept |= {k: v for k, v in leaves if k.split(".")[0] == "evaluators"}
    space = {d.key: d.text for d in plan.space}
    return {
        "config": json.loads(json.dumps(kept, default=str)),
        "space": space,
        "metric": plan.metric,
    }


def _check_same(kept: dict, mine: dict, folder: pathlib.Path) -> None:
    """Raises a ConfigError that names the first settings that differ."""
    config = {
        f"config.{key}": (kept["config"].get(key), mine["config"].get(key))
        for key in {**kept["config"], **mine["config"]}
    }
    space = {
        f"the range of {key}": (kept["space"].get(key), mine["space"].get(key))
        for key in {**kept["space"], **mine["space"]}
    }
    pairs = {**space, "--metric": (kept["metric"], mine["metric"]), **config}
    changed = [f"{k} was {old!r}, not {new!r}" for k, (old, new) in pairs.items() if old != new]
    if changed:
        raise ConfigError(
            f"{folder}: the study has other settings: {'; '.join(changed[:3])}; give the same "
            "ones, or choose another --study"
        )


def _write_recipe(path: pathlib.Path, config: ConfigDict) -> None:
    """Writes the config as a file that `--config` reads."""
    settings = pprint.pformat(config.to_dict(), width=96, sort_dicts=False)
    replace_text(
        path,
        '"""Config of the trials of this sweep, without the searched values."""\n\n'
        "from ml_collections import ConfigDict\n\n\n"
        f"def get_config() -> ConfigDict:\n    return ConfigDict(SETTINGS)\n\n\n"
        f"SETTINGS = {settings}\n",
    )


def place_of(study: str, workdir: str | None) -> tuple[str | None, pathlib.Path]:
    """The database's URL, None for a journal, and the folder of the workdirs.

    Raises:
      ConfigError: a database without a folder, a folder twice, or one in an object store.
    """
    if is_local(study):
        if workdir is not None:
            raise ConfigError(f"--workdir={workdir}: only for a database; --study is the folder")
        return None, pathlib.Path(study).expanduser().absolute()
    url = study if "sql" in study.partition("://")[0] else None
    if url is None or (workdir is not None and not is_local(workdir)):
        raise ConfigError(
            f"{study if url is None else workdir}: workers lock files there; write a directory on "
            "a disk that they share"
        )
    if workdir is None:
        raise ConfigError(f"--study={study}: name the folder of the trials too: --workdir=DIR")
    return url, pathlib.Path(workdir).expanduser().absolute()
