"""Averaged parameters: warm-up of the decay, and which parameters are ranked, loaded and logged."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import imgcls
from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.evaluate.__main__ import main as evaluate
from imgcls.main import main
from imgcls.train.preflight import warn_of_short_run
from tests.end_to_end.test_resume import final_state
from tests.objectives.cases import make_objective
from tests.runs.test_names import edit_meta

# min(0.5, (1 + n) / (10 + n)) for n from 0 to 19: the decay of TensorFlow's
# ExponentialMovingAverage(0.5, num_updates=n), which reaches 0.5 at n = 8.
DECAYS = [
    *(0.1, 0.18181818181818182, 0.25, 0.3076923076923077, 0.35714285714285715, 0.4),
    *(0.4375, 0.47058823529411764, *[0.5] * 12),
]
SMALL = (
    "--config=configs/digits.py",
    "--config.model.width=4",
    "--config.model.stage_sizes=(1,)",
    "--config.compile_cache=",
)


def test_decay_of_20_steps():
    objective = make_objective(ema=0.5)
    decay = jax.jit(objective.decay)
    assert len(DECAYS) == 20
    np.testing.assert_allclose([decay(jnp.int32(n)) for n in range(20)], DECAYS, rtol=1e-6)
    # A decay as large as usual is reached late.
    decay = jax.jit(make_objective(ema=0.9999).decay)
    for step, expected in (
        (0, 0.1),
        (90, 0.91),
        (8990, 8991 / 9000),
        (89_990, 0.9999),
        (10**6, 0.9999),
    ):
        np.testing.assert_allclose(decay(jnp.int32(step)), expected, rtol=1e-6)
    assert make_objective(ema=0.9999, warmup=False).decay(jnp.int32(0)) == 0.9999


def test_average_of_20_steps_of_the_command(tmp_path):
    """Every array of the average, against a loop in float64 over the checkpoints of each step."""
    run = (
        "--config.total=21 steps",
        "--config.ema=0.5",
        "--config.checkpoint.every=1 steps",
        "--config.checkpoint.keep_last=30",
        f"--workdir={tmp_path}",
    )
    assert main([*SMALL, *run]) == 0
    states = [final_state(tmp_path / "checkpoints" / str(step)) for step in range(1, 22)]
    average = {k: np.float64(v) for k, v in states[0].items() if k.startswith("['target']")}
    assert any("batch_stats" in key for key in average) and any("params" in key for key in average)
    for n, state in enumerate(states[1:], start=1):
        decay = min(0.5, (1 + n) / (10 + n))
        for key, value in average.items():
            place = key.removeprefix("['target']")
            name = place if place.startswith("['params']") else f"['model_state']{place}"
            average[key] = decay * value + (1 - decay) * np.float64(state[name])
            np.testing.assert_allclose(state[key], average[key], rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("ema", "warmup", "total", "words"),
    [
        (0.9999, True, 420, "of 420 steps .* ends at a decay of 0.979, .*the last 48 steps"),
        (0.9, True, 80, "of 80 steps .* ends at a decay of 0.899"),
        (0.9, True, 81, ""),
        (0.9999, True, 100_000, ""),
        (0.9999, False, 420, "too short for it: the initial parameters are 95.9 % of the average"),
        (0.9999, False, 46_000, "the initial parameters are 1 % of the average"),
        (0.9999, False, 47_000, ""),
        (0.0, True, 1, ""),
        (0.0, False, 1, ""),
    ],
)
def test_a_run_too_short_for_its_average(ema, warmup, total, words, capsys):
    config = default_config()
    config.ema, config.ema_warmup = ema, warmup
    warn_of_short_run(config, total)
    out = capsys.readouterr().out
    assert out.count("\n") == bool(words)
    if words:
        assert f"config.ema={ema}: the run of {total} steps is too short for it" in out
        assert re.search(words, out)


def read_log(workdir) -> dict[int, dict]:
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {x["step"]: x for x in lines if "test/accuracy" in x}


@pytest.mark.slow
def test_one_rule_of_which_parameters_count(tmp_path, capsys):
    """Those that are ranked, kept and loaded are the averaged ones, here of a short run."""
    run = (
        "--config.model.width=8",
        "--config.model.stage_sizes=(1, 1)",
        "--config.total=120 steps",
        "--config.optim.learning_rate=0.3",
        "--config.schedule.warmup=5 steps",
        "--config.ema=0.9999",
        "--config.evaluators.test.every=20 steps",
        "--config.checkpoint.keep_last=1",
        f"--workdir={tmp_path}",
    )
    assert main([*SMALL, *run]) == 0
    out = capsys.readouterr().out
    assert "config.ema=0.9999: the run of 120 steps is too short for it: the warm-up ends" in out
    log = read_log(tmp_path)
    averaged = {step: line["test/ema_accuracy"] for step, line in log.items()}
    best = max(reversed(averaged), key=lambda step: averaged[step])
    assert f"{tmp_path}:best is step {best} (test/ema_accuracy {averaged[best]:.4f})" in out
    assert {int(p.name) for p in (tmp_path / "checkpoints").iterdir()} == {best, 120}
    # The average follows the parameters: without warm-up it stays at chance.
    assert averaged[120] > 0.5
    for name, step in (("newest", 120), ("best", best)):
        loaded = imgcls.load(f"{tmp_path}:{name}")
        assert loaded.evaluate("test", bootstrap=0).metrics["accuracy"] == averaged[step]
        assert repr(loaded).endswith("10 classes, averaged parameters)")
    assert evaluate([f"--workdir={tmp_path}", "--bootstrap=0"]) == 0
    printed = json.loads(capsys.readouterr().out)
    for key in ("test/accuracy", "test/ema_accuracy"):
        assert printed[key] == log[120][key]


def test_a_run_from_before_the_warmup_continues_in_the_same_bits(tmp_path, capsys):
    """Its config lacks the key; the command that started it continues it."""
    run = [
        *SMALL,
        "--config.total=8 steps",
        "--config.ema=0.9",
        "--config.checkpoint.every=4 steps",
        f"--workdir={tmp_path}",
    ]
    assert main([*run, "--config.ema_warmup=False"]) == 0
    expected = (tmp_path / "checkpoints" / "8").rename(tmp_path / "expected")
    edit_meta(tmp_path, 4, lambda meta: meta["config"].pop("ema_warmup"))
    with pytest.raises(ConfigError, match="ema_warmup was False, is True"):
        main([*run, "--config.ema_warmup=True"])
    capsys.readouterr()
    assert main(run) == 0
    out = capsys.readouterr().out
    assert "continue at step 4 of 8" in out and "the config changed" not in out
    ours, theirs = final_state(tmp_path), final_state(expected)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key].tobytes() == value.tobytes(), key
    assert json.loads((tmp_path / "config.json").read_text())["ema_warmup"] is False


def test_a_new_run_warms_up_and_continues_so(tmp_path):
    every = ("--config.total=4 steps", "--config.checkpoint.every=2 steps")
    run = [*SMALL, *every, "--config.ema=0.9", f"--workdir={tmp_path}"]
    assert main(run) == 0
    assert json.loads((tmp_path / "config.json").read_text())["ema_warmup"] is True
    theirs = final_state((tmp_path / "checkpoints" / "4").rename(tmp_path / "expected"))
    assert main([*run, "--config.ema_warmup=True"]) == 0
    ours = final_state(tmp_path)
    assert {k: v.tobytes() for k, v in ours.items()} == {k: v.tobytes() for k, v in theirs.items()}
    with pytest.raises(ConfigError, match="ema_warmup was True, is False"):
        main([*run, "--config.ema_warmup=False"])
