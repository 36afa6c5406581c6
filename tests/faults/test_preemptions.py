"""A run that is preempted again and again is done all the same, and knows its goodput."""

import json

import pytest

from tests.faults import preemptions


@pytest.mark.slow
def test_preempted_every_half_minute(tmp_path):
    result = preemptions.preempt(tmp_path, minutes=1.5, every=30)
    assert result["sigterms"] >= 2 and len(set(result["stopped_at"])) >= 2
    assert preemptions.held(result), json.dumps(result, indent=2)
