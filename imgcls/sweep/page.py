"""The trials of a sweep as an HTML page: history, importances, values of each key, a table."""

import warnings

import matplotlib
import numpy as np
import optuna
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from imgcls.report import html
from imgcls.report.charts import ACCENT, SIZE, SOFT, STYLE
from imgcls.sweep.results import Results
from imgcls.sweep.study import Study


def write(study: Study, results: Results) -> str:
    """Returns the page."""
    complete = study.trials(TrialState.COMPLETE)
    keys = [key for key in (complete[0].params if complete else {}) if _varies(complete, key)]
    return html.render(
        "sweep.html",
        metric=study.metric,
        rows=results.rows,
        columns=list(results.rows[0]) if results.rows else [],
        ends={state.name.lower(): len(study.trials(state)) for state in TrialState},
        best=results.best,
        history=_history(complete, study) if complete else None,
        importances=_importances(study, keys) if len(complete) > 2 and keys else None,
        slices={key: _slice(complete, key, study.metric.name) for key in keys},
    )


def _varies(trials: list[FrozenTrial], key: str) -> bool:
    return len({trial.params[key] for trial in trials}) > 1


@matplotlib.rc_context(STYLE)
def _history(trials: list[FrozenTrial], study: Study) -> str:
    """The metric of each trial, and the best so far."""
    figure = Figure(figsize=SIZE)
    axes = figure.add_subplot(xlabel="trial", ylabel=study.metric.name)
    numbers, values = [t.number for t in trials], np.array([t.value for t in trials], float)
    best = np.maximum if study.metric.better == "higher" else np.minimum
    axes.step(numbers, best.accumulate(values), where="post", color=SOFT, linestyle="--")
    axes.scatter(numbers, values, s=24, color=ACCENT, zorder=2)
    return html.chart_uri(figure)


@matplotlib.rc_context(STYLE)
def _importances(study: Study, keys: list[str]) -> str | None:
    """The share of the metric's variance that each key explains (Hutter et al. 2014, fANOVA)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            found = optuna.importance.get_param_importances(
                study.study, evaluator=evaluator, params=keys
            )
    except (ValueError, RuntimeError):  # All values are the same.
        return None
    names = list(found)[::-1]
    figure = Figure(figsize=SIZE)
    axes = figure.add_subplot(xlabel="importance", xlim=(0, 1))
    axes.barh(names, [found[name] for name in names], color=ACCENT, height=0.5)
    return html.chart_uri(figure)


@matplotlib.rc_context(STYLE)
def _slice(trials: list[FrozenTrial], key: str, metric: str) -> str:
    """The metric over the values of one key."""
    distribution = trials[0].distributions[key]
    figure = Figure(figsize=SIZE)
    axes = figure.add_subplot(xlabel=key, ylabel=metric)
    values = [trial.params[key] for trial in trials]
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        names = [str(choice) for choice in distribution.choices]
        axes.set_xticks(range(len(names)), names)
        values = [names.index(str(value)) for value in values]
    elif getattr(distribution, "log", False):
        axes.set_xscale("log")
    axes.scatter(values, np.array([trial.value for trial in trials], float), s=24, color=ACCENT)
    return html.chart_uri(figure)
