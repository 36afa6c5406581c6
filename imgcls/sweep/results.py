"""The trials of a sweep as a table."""

import dataclasses

from optuna.trial import FrozenTrial, TrialState

from imgcls.compare.groups import to_text
from imgcls.core import notebook_html
from imgcls.sweep.study import Study


@dataclasses.dataclass(frozen=True)
class Results:
    """Trials, the best first; text on a terminal, a table in a notebook.

    Attributes:
      metric: name of the metric that ranks them.
      rows: `{column: value}` of each trial: its workdir's name, its end, the metric's last value
        (None unless it is complete), the searched keys, seconds, and why it failed.
      is_complete: whether all trials have ended.
      best: the best row; None if no trial is complete.
    """

    metric: str
    rows: list[dict[str, object]]
    is_complete: bool
    best: dict[str, object] | None

    def __repr__(self) -> str:
        if not self.rows:
            return "no trials"
        end = "" if self.is_complete else "\nnot all trials have ended: run the command again"
        return to_text(self.rows) + end

    def _repr_html_(self) -> str:
        if not self.rows:
            return "no trials"
        return notebook_html.table(self.rows[0], [row.values() for row in self.rows])


def read(study: Study) -> Results:
    """Reads the trials of a study."""
    trials = study.trials()
    ranked = sorted(trials, key=lambda trial: _rank(trial, study.metric.better))
    failed = any("failure" in trial.user_attrs for trial in trials)
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    rows = [_row(study, trial, keys, failed) for trial in ranked]
    best = rows[0] if ranked and ranked[0].state == TrialState.COMPLETE else None
    return Results(study.metric.name, rows, study.is_complete(), best)


def _rank(trial: FrozenTrial, better: str) -> tuple:
    if trial.state != TrialState.COMPLETE or trial.value is None:
        return (1, 0.0, trial.number)
    return (0, -trial.value if better == "higher" else trial.value, trial.number)


def _row(study: Study, trial: FrozenTrial, keys: list[str], failed: bool) -> dict[str, object]:
    is_complete = trial.state == TrialState.COMPLETE
    row = {
        "trial": study.workdir(trial.number).name,
        "end": trial.state.name.lower(),
        study.metric.name: trial.value if is_complete else None,
        **{key: trial.params.get(key) for key in keys},
        "seconds": trial.duration.total_seconds() if trial.duration else None,
    }
    return row | ({"failure": trial.user_attrs.get("failure", "")} if failed else {})
