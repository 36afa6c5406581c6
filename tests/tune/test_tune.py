"""The finders: their rules on made curves, and on digits."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import imgcls
from imgcls.core.errors import ConfigError
from imgcls.tune import batch_size, learning_rate
from imgcls.tune.batch_size import Size

SMALL = {"model.width": 8, "model.stage_sizes": (1,), "log.tensorboard": False}


def test_suggestion_is_where_the_loss_falls_fastest():
    """A logistic fall in the logarithm of the rate is steepest in its middle, here 0.01."""
    rates = np.geomspace(1e-6, 1, 601)
    losses = 2 - 1 / (1 + np.exp(-3 * (np.log(rates) - np.log(0.01))))
    losses[500:] += np.arange(101)  # Diverges after 0.1.
    assert learning_rate.suggest(rates, losses) == pytest.approx(0.01, rel=0.03)
    assert learning_rate.suggest(rates, np.arange(601.0)) is None
    assert learning_rate.suggest(rates[:5], losses[:5]) is None


def test_smoothing_against_a_loop():
    losses = list(np.random.default_rng(0).normal(size=20))
    for i, value in enumerate(learning_rate.smooth(losses), start=1):
        weights = 0.9 ** np.arange(i)[::-1]
        assert value == pytest.approx(np.average(losses[:i], weights=weights))


def test_divergence():
    assert learning_rate.has_diverged([1.0, float("nan")])
    assert not learning_rate.has_diverged([1.0] * 30)
    assert learning_rate.has_diverged([1.0] * 30 + [1000.0])


def test_the_smallest_of_the_fast_sizes_is_suggested():
    tried = [Size(8, 100.0), Size(16, 190.0), Size(32, None, "does not divide"), Size(64, 195.0)]
    assert batch_size.suggest(tried) == 16


def test_out_of_memory_is_recognized():
    with pytest.raises(Exception) as caught:
        jnp.zeros(1 << 46, jnp.uint8).block_until_ready()
    assert batch_size.is_out_of_memory(caught.value)
    assert batch_size.is_out_of_memory(MemoryError()) and not batch_size.is_out_of_memory(
        ValueError()
    )


def test_rates_rise_and_nothing_else_is_written(command, tmp_path):
    words = [f"--config.{key}={value}" for key, value in SMALL.items()]
    files = [f"--html={tmp_path}/page.html", f"--png={tmp_path}/curve.png"]
    words += ["--only=learning_rate", "--low=0.001", "--high=1", "--steps=31"]
    done = command("tune", "--config=digits", *words, *files)
    assert done.returncode == 0, done.stderr
    assert "suggestion: " in done.stdout and "        0.001  2.3" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.png", "page.html"]
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert "Loss over the learning rate" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": "batchsize"}, "did you mean 'batch_size'"),
        ({"low": 1.0, "high": 0.1}, "write 0 < low < high"),
        ({"steps": 5}, "must be above 20"),
        ({"only": "batch_size", "smallest": 9, "largest": 8}, "smallest"),
        ({"only": "batch_size", "png": "x.png"}, "which --only leaves out"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError, match=message):
        imgcls.tune("digits", **options)


# ---- Slow: `pytest -m slow tests/tune`.


@pytest.mark.slow
def test_the_suggested_rate_trains_digits(command, tmp_path):
    """97 % without a rate set by hand."""
    done = command("tune", "--config=digits", "--only=learning_rate")
    assert done.returncode == 0, done.stderr
    flag = done.stdout.split("suggestion: ")[1].strip()
    done = command("main", "--config=digits", f"--workdir={tmp_path}/run", flag, timeout=1200)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in open(tmp_path / "run" / "metrics.jsonl")]
    assert [line["test/accuracy"] for line in lines if "test/accuracy" in line][-1] >= 0.97


@pytest.mark.slow
def test_batch_sizes_are_doubled(command):
    words = [f"--config.{key}={value}" for key, value in SMALL.items()]
    words += ["--only=batch_size", "--smallest=4", "--largest=32"]
    done = command("tune", "--config=digits", *words, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    tried = {int(row[0]): row[1] for row in rows if row and row[0].isdigit()}
    # The recipe's virtual batch has 8 examples, which 4 is not a multiple of.
    assert tried[4] == "-" and float(tried[8].replace(",", "")) > 0
    assert "suggestion: --config.batch_size=" in done.stdout
