"""Token buckets with a clock of their own."""

import pytest

from imgcls.studio.limits import Buckets, retry_after


@pytest.fixture
def clock():
    return [100.0]


def test_a_burst_and_then_the_rate(clock):
    buckets = Buckets(3, 0.5, clock=lambda: clock[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 2]
    assert buckets.take("b") == 0
    clock[0] += 1
    assert buckets.wait("a") == 1 and buckets.take("a") == 1
    clock[0] += 1
    assert buckets.take("a") == 0 and buckets.take("a") == 2
    clock[0] += 1000
    assert buckets.left("a") == 3


def test_keys_are_bounded_and_full_buckets_are_forgotten_first(clock):
    buckets = Buckets(10, 1, size=3, clock=lambda: clock[0])
    for _ in range(9):
        buckets.take("busy")
    clock[0] += 2
    for key in "abcdef":
        buckets.take(key)
    assert len(buckets._buckets) == 3 and buckets.left("f") == 9
    clock[0] += 1
    buckets = Buckets(10, 1, size=2, clock=lambda: clock[0])
    for _ in range(9):
        buckets.take("busy")
    buckets.take("a")
    clock[0] += 1
    buckets.take("b")
    assert buckets.left("busy") == 2  # "a" was full again.


def test_retry_after_is_a_whole_number_of_seconds():
    assert [retry_after(s) for s in (0.01, 1, 1.2)] == ["1", "1", "2"]
