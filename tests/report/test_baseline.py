"""The classifiers without a network in a report."""

import shutil

import pytest

from imgcls.data.sources.digits import DigitsSource
from imgcls.evaluate.baseline import measure_baseline
from imgcls.report.__main__ import main
from tests import reports
from tests.conftest import exit_code


@pytest.fixture(scope="session")
def expected():
    return measure_baseline(DigitsSource("train", 0), DigitsSource("test", 0))


def test_rows(workdir, tmp_path_factory, expected):
    path = reports.digits_page(workdir, tmp_path_factory.getbasetemp())
    page = reports.Page(path)
    rows = page.table("classifier", "accuracy")
    (accuracy,) = [row[1] for row in page.table("metric", "value") if row[0] == "accuracy"]
    assert rows[0] == ["this model", accuracy]
    assert expected.kernel in rows[1][0] and "support vector machine" in rows[1][0]
    assert float(rows[1][1]) == pytest.approx(expected.svm, abs=6e-5)
    assert float(rows[2][1]) == pytest.approx(expected.majority, abs=6e-5)
    assert rows[2][0].endswith(f"class, {expected.majority_class}")
    assert "trained on 1,438 images" in page.text and "evaluated on 359 of test" in page.text
    # Six epochs do not beat it.
    assert ("not clearly better" in page.text) == (float(accuracy) < expected.svm + 0.01)


def test_no_row_for_the_images_trained_on(workdir, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    command = [f"--workdir={copy}", "--split=train[:100]", "--examples=1"]
    assert exit_code(lambda: main(command)) == 0
    assert "Without a network" not in reports.Page(copy / "report" / "report.html").text
    assert not (copy / "report" / "baseline.json").exists()
