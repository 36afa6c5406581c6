"""20 training steps against recorded values of timm and torch."""

import json

import pytest

from tests.train import ours, reference

EXPECTED = json.loads(reference.RECORDED.read_text())


@pytest.mark.parametrize("case", ours.CASES)
def test_steps(case):
    ours.check(case, EXPECTED[case])
