"""Accuracy of videos by their length."""

import re

import numpy as np
import pytest

from imgcls.report import lengths
from imgcls.report.__main__ import main
from tests import reports
from tests.conftest import exit_code
from tests.make import save_clip_run


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of Wilson 1927, by its formula."""
    z, p = 1.959963984540054, hits / count
    center = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(p * (1 - p) / count + z * z / (4 * count**2))
    return center - half, center + half


def test_bins_agree_with_a_loop():
    rng = np.random.default_rng(0)
    seconds, correct = rng.gamma(2, 5, 200), rng.random(200) < 0.7
    seconds[::9] = np.nan
    bins = lengths.make_bins(seconds, correct)
    assert len(bins) == 6
    seen = 0
    for number, found in enumerate(bins):
        count = hits = 0
        for s, c in zip(seconds, correct, strict=True):
            if found.low <= s <= found.high:
                count += 1
                hits += bool(c)
        assert (found.examples, found.correct) == (count, hits)
        assert found.accuracy == hits / count
        assert found.interval == pytest.approx(wilson(hits, count), abs=1e-9)
        assert number == 0 or bins[number - 1].high < found.low
        seen += count
    assert seen == np.isfinite(seconds).sum()
    sizes = [found.examples for found in bins]
    assert max(sizes) - min(sizes) <= 2


def test_videos_of_equal_length_have_no_bins():
    correct = np.arange(60) % 2 == 0
    assert lengths.make_bins(10 + np.random.default_rng(0).random(60) / 20, correct) == []
    assert lengths.make_bins(np.full(60, np.nan), correct) == []
    assert lengths.make_bins(np.arange(1.0, 10), correct[:9]) == []
    # Most are equally long, and some are short.
    few = lengths.make_bins(np.r_[np.linspace(1, 2, 10), np.full(50, 10)], correct)
    assert [(b.low, b.examples) for b in few][-1] == (10, 50) and few[0].low == 1


def cells(row: list[str]) -> tuple:
    low, high = map(float, row[0].split(" to "))
    return low, high, int(row[1]), float(row[2])


def test_report_of_clips(tmp_path_factory):
    """24 videos of 4 to 27 frames, and one of 9, at 25 frames per second."""
    page = reports.Page(reports.clips_page(tmp_path_factory.getbasetemp()))
    rows = [cells(row) for row in page.table("seconds", "videos")]
    seconds = sorted([*(np.arange(4, 28) / 25), 9 / 25])
    assert sum(row[2] for row in rows) == 25 and len(rows) == 5
    start = 0
    for low, high, count, _ in rows:
        bounds = seconds[start], seconds[start + count - 1]
        assert (low, high) == pytest.approx(bounds, abs=0.006)
        start += count
    accuracy = {row[0]: float(row[1]) for row in page.table("metric", "value")}["accuracy"]
    mean = sum(count * share for *_, count, share in rows) / 25
    assert mean == pytest.approx(accuracy, abs=1e-3)
    assert [a["id"] for tag, a in page.tags if a.get("id") == "lengths"]


def test_report_of_several_labels(tmp_path, tmp_path_factory):
    """A video is correct if all of its decisions are: the mean is the exact match."""
    reports.clips_page(tmp_path_factory.getbasetemp())
    run = save_clip_run(tmp_path / "run", ("bright", "dark"), multi_label=True)
    source = f"folder:{tmp_path_factory.getbasetemp() / 'clips data'}"
    arguments = [f"--workdir={run}", f"--config.data.source={source}", "--examples=2"]
    arguments += ["--config.data.multi_label=True", "--config.data.workers=0"]
    assert exit_code(lambda: main(arguments)) == 0
    page = reports.Page(run / "report" / "report.html")
    rows = [cells(row) for row in page.table("seconds", "videos", "all correct")]
    metrics = {row[0]: float(row[1]) for row in page.table("metric", "value")}
    mean = sum(count * share for *_, count, share in rows) / 25
    assert mean == pytest.approx(metrics["exact_match"], abs=1e-3)
    assert re.search("correct if all of its\\s+decisions are", page.text)
