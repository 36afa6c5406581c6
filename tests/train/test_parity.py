"""20 training steps against timm and torch: `pytest -m parity`, requirements-parity.txt."""

import json

import numpy as np
import pytest

from tests.train import ours, reference

pytestmark = pytest.mark.parity
pytest.importorskip("torch", reason="needs requirements-parity.txt")


@pytest.mark.parametrize("case", reference.CASES)
def test_steps(case):
    ours.check(case, reference.CASES[case]())


@pytest.mark.parametrize("case", reference.CASES)
def test_recorded_values_are_those_of_the_reference(case):
    recorded = json.loads(reference.RECORDED.read_text())[case]
    for step, arrays in zip(recorded, reference.CASES[case](), strict=True):
        for name, array in arrays.items():
            np.testing.assert_allclose(step[name], array.ravel(), rtol=1e-6, atol=1e-9)
