"""Comparison of six small runs, two configs with three seeds, against NumPy and scikit-learn."""

import csv
import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import recall_score

import imgcls
from imgcls.compare.charts import pareto_front
from imgcls.compare.paired import Answers, compare_answers, mcnemar
from imgcls.core.errors import ConfigError

SETTINGS = {
    "total": "30 steps",
    "batch_size": 64,
    "model.width": 8,
    "model.stage_sizes": (1, 1),
    "model.virtual_batch_size": 64,
    "checkpoint.every": "30 steps",
    "log.every": "10 steps",
    "evaluators.test.every": "15 steps",
}
RATES = (0.003, 0.03)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, here):
    """The folder of six workdirs, in the order of the rates and seeds."""
    folder = tmp_path_factory.mktemp("runs")
    flags = [f"--config.{key}={value}" for key, value in SETTINGS.items()]
    for rate in RATES:
        for seed in range(3):
            more = (f"--config.optim.learning_rate={rate}", f"--config.seed={seed}")
            workdir = f"--workdir={folder}/rate{rate}-{seed}"
            done = here("main", "--config=digits", workdir, *flags, *more)
            assert done.returncode == 0, done.stderr
    return folder


def final_values(folder, metric="test/accuracy") -> dict[float, list[tuple[float, float]]]:
    """`{rate: [(final value, best value)]}` read from the files by other means."""
    values = {}
    for rate in RATES:
        for seed in range(3):
            text = (folder / f"rate{rate}-{seed}" / "metrics.jsonl").read_text()
            lines = [json.loads(line) for line in text.splitlines()]
            logged = [line[metric] for line in lines if metric in line]
            values.setdefault(rate, []).append((logged[-1], max(logged)))
    return values


def test_means_and_deviations_equal_numpys(runs, command, tmp_path):
    """A row for each rate, on the terminal and as CSV."""
    done = command("compare", str(runs), f"--csv={tmp_path}/table.csv")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "table.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 == len(done.stdout.splitlines()) - 1
    for row, (rate, values) in zip(rows, final_values(runs).items(), strict=True):
        final, best = np.array(values).T
        assert float(row["optim.learning_rate"]) == rate and row["seeds"] == "3"
        assert float(row["test/accuracy"]) == np.mean(final)
        assert float(row["test/accuracy std"]) == pytest.approx(np.std(final, ddof=1), rel=1e-12)
        assert float(row["best test/accuracy"]) == np.mean(best)
        assert int(row["steps"]) == 30 and float(row["images/s"]) > 0
        params = imgcls.load(runs / f"rate{rate}-0")._trained.params
        assert int(row["parameters"]) == sum(x.size for x in _leaves(params))
        assert f"{np.mean(final):.4f} ± {np.std(final, ddof=1):.4f}" in done.stdout
    # The keys that differ are columns, and no others.
    assert set(rows[0]) & {"batch_size", "seed", "model.name"} == set()


def _leaves(tree):
    import jax

    return jax.tree.leaves(tree)


def test_page(runs, tmp_path):
    """Curves, Pareto charts, classes and pictures of what one gets right and the other wrong."""
    table = imgcls.compare(runs, html=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figure>") > 5 and "McNemar's exact test" in page
    assert "rate0.03-0 against rate0.003-0" in page and "data:image/png" in page
    assert "nan" not in page.lower() and len(table.rows) == 2
    with pytest.raises(ConfigError, match="--metric=test/acuracy: no run has it; did you mean"):
        imgcls.compare(runs, metrics=["test/acuracy"])
    with pytest.raises(ConfigError, match="no workdir there"):
        imgcls.compare(tmp_path)
    losses = imgcls.compare(runs / "rate0.03-0", metrics=["test/loss"])
    assert losses.rows[0]["best test/loss"] <= losses.rows[0]["test/loss"]


def test_paired_answers_against_loops():
    """McNemar's exact test and the recalls, against scipy's binomial and scikit-learn."""
    rng = np.random.default_rng(0)
    names, classes = [f"{i}.png" for i in range(200)], np.array(["cat", "dog", "owl"])
    labels = rng.choice(classes, 200)
    a = np.where(rng.random(200) < 0.6, labels, rng.choice(classes, 200))
    b = np.where(rng.random(200) < 0.8, labels, rng.choice(classes, 200))
    order = rng.permutation(200)[:180]
    first = Answers(names, list(labels), list(a))
    second = Answers([names[i] for i in order], list(labels[order]), list(b[order]))
    found = compare_answers(first, second, replicates=400)
    kept = np.sort(order)
    labels, a, b = labels[kept], a[kept], b[kept]
    right_a, right_b = a == labels, b == labels
    wins, losses = int((right_b & ~right_a).sum()), int((right_a & ~right_b).sum())
    assert (found.examples, len(found.only_b), len(found.only_a)) == (180, wins, losses)
    tail = sum(stats.binom.pmf(k, wins + losses, 0.5) for k in range(min(wins, losses) + 1))
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    for name, answers in (("a", a), ("b", b)):
        recalls = recall_score(labels, answers, average=None, labels=classes)
        assert [row[name] for row in found.classes] == pytest.approx(list(recalls))
    assert found.interval[0] < found.difference < found.interval[1]
    # Resampled by a loop: the interval is that of the mean of +1, 0 and -1.
    change = right_b.astype(int) - right_a
    means = [rng.choice(change, 180).mean() for _ in range(4000)]
    assert found.interval == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.015)


def test_disagreements_that_cannot_be_compared():
    """Nothing in common, other labels; equal runs do not differ."""
    answers = Answers(["x"], ["cat"], ["dog"])
    with pytest.raises(ConfigError, match="no test example in common"):
        compare_answers(answers, Answers(["y"], ["cat"], ["cat"]))
    with pytest.raises(ConfigError, match="x: its label differs"):
        compare_answers(answers, Answers(["x"], ["dog"], ["dog"]))
    assert compare_answers(answers, answers).p_value == mcnemar(0, 0) == 1.0


def test_pareto_front():
    """Points that no cheaper one reaches."""
    points = [(3, 0.9), (1, 0.5), (2, 0.5), (2, 0.8), (4, 0.85), (3, 0.7)]
    assert pareto_front([(float(x), y) for x, y in points]) == [1, 3, 0]
    assert pareto_front([(1.0, 2.0), (2.0, 1.0), (3.0, 1.5)], higher=False) == [0, 1]
