"""Profiles of the steps of a run."""

import re

import jax
import pytest

from imgcls.core.config import override
from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.runs.profile import Profile, check_profile, warn_if_too_late


def make_config(steps: str):
    return override(default_config(), [f"--config.log.profile={steps}"])


@pytest.fixture
def calls(monkeypatch):
    """Calls of the profiler; like the real one, it can't be started or stopped twice."""
    made = []

    def start(folder):
        assert not made or made[-1] == "stop"
        made.append(folder)

    def stop():
        assert made and made[-1] != "stop"
        made.append("stop")

    monkeypatch.setattr(jax.profiler, "start_trace", start)
    monkeypatch.setattr(jax.profiler, "stop_trace", stop)
    return made


@pytest.mark.parametrize(
    ("run", "last"), [(range(1, 9), 6), (range(4, 9), 6), (range(1, 5), None), (range(6, 9), None)]
)
def test_profile_starts_and_ends(run, last, calls):
    """In a full run, and in runs that resume within, end within or start after the range."""
    profile, ended = Profile(make_config("(3, 5)"), "/run"), None
    for step in run:
        profile.before(step)
        if "stop" in calls and ended is None:
            ended = step
    assert ended == last
    profile.close()
    assert calls == (["/run/profile", "stop"] if set(run) & {3, 4, 5} else [])


def test_profile_starts_again_after_a_rollback(calls):
    for first in (1, 4):
        profile = Profile(make_config("(3, 9)"), "/run")
        for step in range(first, 6):
            profile.before(step)
        profile.close()
    assert calls == ["/run/profile", "stop"] * 2


def test_only_the_first_process_writes(calls, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    profile = Profile(make_config("(1, 2)"), "/run")
    profile.before(1)
    profile.close()
    assert calls == []


def test_profile_on_a_full_disk(calls, monkeypatch, capsys):
    def stop():
        raise OSError(28, "No space left on device")

    profile = Profile(make_config("(1, 1)"), "/run")
    profile.before(1)
    monkeypatch.setattr(jax.profiler, "stop_trace", stop)
    profile.before(2)
    profile.close()
    output = capsys.readouterr().out
    assert output.count("the profile can't be written: /run/profile: No space left on device") == 1


@pytest.mark.parametrize("steps", ["(10,)", "(20, 10)", "(1, 2, 3)", "('a', 'b')", "(1.0, 2.0)"])
def test_not_a_range_of_steps(steps):
    with pytest.raises(ConfigError, match=re.escape(f"config.log.profile={steps}: write the ")):
        check_profile(make_config(steps))


def test_ranges_of_steps():
    for steps in ("()", "(3, 3)", "(10, 20)"):
        check_profile(make_config(steps))


@pytest.mark.parametrize(
    ("steps", "first", "total", "line"),
    [
        ("(30, 50)", 0, 40, "(30, 50): the run ends at step 40, only steps 30 to 40 are profiled"),
        ("(40, 41)", 0, 40, "(40, 41): the run ends at step 40, only steps 40 to 40 are profiled"),
        ("(41, 50)", 0, 40, "(41, 50): the run ends at step 40, nothing is profiled"),
        ("(41, 50)", 20, 40, "(41, 50): the run ends at step 40, nothing is profiled"),
        ("(30, 40)", 0, 40, ""),
        ("(3, 5)", 20, 40, ""),
        ("(41, 50)", 40, 40, ""),
        ("()", 0, 40, ""),
    ],
)
def test_steps_beyond_the_end_of_the_run(steps, first, total, line, capsys):
    warn_if_too_late(make_config(steps), first, total)
    out = capsys.readouterr().out
    assert out.count("\n") == bool(line) and line in out
    assert ("config.log.profile" in out) == bool(line)
