"""Trains one trial after the other, each by `python -m imgcls.main` as a process of its own."""

import contextlib
import ctypes
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from optuna.trial import TrialState

from imgcls.core import log
from imgcls.core.errors import EXIT_AGAIN
from imgcls.core.storage import as_path
from imgcls.runs.metrics_log import read_metrics
from imgcls.sweep.space import override_of
from imgcls.sweep.study import ENDED, Claim, Study

# Seconds between two looks at a run, and at the trials of other workers.
LOOK, WAIT = 0.3, 1.0
# Log of a trial's process, in its workdir.
OUTPUT = "output.log"
_PR_SET_PDEATHSIG = 1


class Stopped(Exception):
    """The worker was asked to stop; its trial can be continued."""


def work(study: Study) -> bool:
    """Trains trials until all of the sweep have ended, also those of other workers.

    Returns:
      Whether all have ended; False if the worker was asked to stop (SIGTERM or Ctrl-C).
    """
    with _stop_asked() as asked:
        try:
            while not study.is_complete():
                claim = study.claim()
                if claim is None:
                    _wait(asked)
                    continue
                try:
                    _train(study, claim, asked)
                finally:
                    claim.lock.release()
        except Stopped:
            return False
    return True


def _wait(asked: Callable[[], bool]) -> None:
    time.sleep(WAIT)
    if asked():
        raise Stopped


def _train(study: Study, claim: Claim, asked: Callable[[], bool]) -> None:
    """Trains a trial to its end and tells the study.

    Raises:
      Stopped: the worker was asked to stop.
    """
    number, shown = claim.trial.number, " ".join(f"{k}={v}" for k, v in claim.values.items())
    _say(f"trial {number} {'continues' if claim.is_continued else 'begins'}: {shown}")
    code = EXIT_AGAIN
    while code == EXIT_AGAIN:
        code = _run(study, claim, asked)
        if asked():
            raise Stopped
    values = _values(claim.workdir, study.metric.name)
    if code == "pruned":
        study.study.tell(number, state=TrialState.PRUNED)
        _end(study, number, f"is pruned at step {max(values)}")
    elif code == 0 and values and math.isfinite(value := values[max(values)]):
        study.study.tell(number, value)
        _end(study, number, f"ends: {study.metric.name} {value:.4f}")
    else:
        reason = f"{study.metric.name} is not a finite number"
        reason = _reason(claim.workdir, code) if code else reason
        claim.trial.set_user_attr("failure", reason)
        study.study.tell(number, state=TrialState.FAIL)
        _end(study, number, f"fails: {reason}")


def _run(study: Study, claim: Claim, asked: Callable[[], bool]) -> int | str:
    """Runs the process of a trial; returns its exit code, or 'pruned'."""
    line = [sys.executable, "-m", "imgcls.main", f"--config={study.recipe}"]
    line += [f"--workdir={claim.workdir}"]
    line += [override_of(key, value) for key, value in claim.values.items()]
    reported = set(study.study.trials[claim.trial.number].intermediate_values)
    with open(claim.workdir / OUTPUT, "ab") as output:
        process = subprocess.Popen(
            line,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            preexec_fn=_end_with_parent,
        )
    pruned, size = False, -1
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
            if asked():
                break
            if size != (size := _size(claim.workdir)):
                pruned = _report(study, claim, reported)
            if pruned:
                break
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # It saves a checkpoint.
        code = process.wait()
    return "pruned" if pruned else code


def _report(study: Study, claim: Claim, reported: set[int]) -> bool:
    """Reports new values of the metric; returns whether the trial is to be pruned."""
    for step, value in _values(claim.workdir, study.metric.name).items():
        if step not in reported and math.isfinite(value):
            claim.trial.report(value, step)
            reported.add(step)
            if claim.trial.should_prune():
                return True
    return False


def _values(workdir: pathlib.Path, metric: str) -> dict[int, float]:
    """`{step: value}` of a metric in the logs of a run."""
    lines = read_metrics(as_path(workdir))
    return {int(line["step"]): line[metric] for line in lines if metric in line}


def _size(workdir: pathlib.Path) -> int:
    try:
        return (workdir / "metrics.jsonl").stat().st_size
    except OSError:
        return 0


def _reason(workdir: pathlib.Path, code: int | str) -> str:
    """Why a run failed: its error, else its exit code or signal."""
    lines = (workdir / OUTPUT).read_text(errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors and code in (1, 2):
        return errors[-1][:300]
    if isinstance(code, int) and code < 0:
        name = signal.Signals(-code).name
        why = ", probably as memory ran out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{why}"
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"exit code {code}: {last[:300]}"


def _end(study: Study, number: int, what: str) -> None:
    _say(f"trial {number} {what} ({len(study.trials(*ENDED))} of {study.total})")


def _say(message: str) -> None:
    log.result(f"[{time.strftime('%H:%M:%S')}] {message}")


@contextlib.contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """In the block, SIGTERM and Ctrl-C are remembered; yields a function that says so."""
    received: list[int] = []
    signals, before = (signal.SIGTERM, signal.SIGINT), {}
    try:
        for number in signals:
            before[number] = signal.signal(number, lambda n, _: received.append(n))
    except ValueError:
        pass  # Not the main thread, which alone handles signals.
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """In the process of a trial: leaves the terminal's Ctrl-C to the worker, and ends with it.

    Only Linux tells a process that its parent was killed; elsewhere the run goes on, and its lock
    keeps other workers from the trial.
    """
    os.setpgrp()
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
