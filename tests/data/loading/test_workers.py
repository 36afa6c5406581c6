"""Worker processes: the same batches, errors as they were raised, and their end."""

import multiprocessing
import os
import re
import signal

import numpy as np
import pytest

from imgcls.core.errors import EXIT_CRASH, DataError
from imgcls.data.loading.batch_loader import BatchPlan
from imgcls.data.loading.loader import Loader
from imgcls.data.loading.reader import Reader
from imgcls.data.loading.workers import WorkerLost
from tests.conftest import make_mesh
from tests.data.loading.test_loader import Numbers, join, read


class Unpicklable(Exception):
    """An error whose copy can't be made from its message alone."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


FAULTS = {
    "data": lambda: DataError("eleven is broken"),
    "end of file": lambda: EOFError("eleven ends early"),
    "unpicklable": lambda: Unpicklable(1, 2),
}


class Faulty(Numbers):
    """Numbers of which reading 11 raises, or ends the process."""

    fault: str | None = None

    def __getitem__(self, index):
        if index == 11:
            if self.fault is None:
                os.kill(os.getpid(), signal.SIGKILL)
            raise FAULTS[self.fault]()
        return super().__getitem__(index)


def children() -> list:
    return [p for p in multiprocessing.active_children() if p.name.startswith("SpawnProcess")]


def test_workers_give_the_batches_of_threads_and_end_after_the_last():
    """More batches than slots, and a number that the workers do not divide."""
    by_threads, _ = read(Numbers(50), steps=11, mesh=make_mesh(data=4))
    by_workers, _ = read(Numbers(50), steps=11, mesh=make_mesh(data=4), workers=3)
    for key, value in by_threads[0].items():
        ours, theirs = join(by_workers, key), join(by_threads, key)
        np.testing.assert_array_equal(ours, theirs)
        assert by_workers[0][key].dtype == value.dtype
    assert not children()


@pytest.mark.parametrize(
    ("fault", "expected", "message"),
    [
        ("data", DataError, "^eleven is broken$"),
        ("end of file", EOFError, "^eleven ends early$"),
        ("unpicklable", RuntimeError, "Unpicklable: 1 and 2"),
        (None, WorkerLost, "exit code -9.*config.data.workers"),
    ],
)
def test_errors_of_workers_are_raised(fault, expected, message):
    source = Faulty(20)
    source.fault = fault
    with pytest.raises(expected) as caught:
        read(source, steps=3, workers=2)
    assert re.search(message, str(caught.value))
    if fault in ("data", "end of file"):
        # Where it was raised, for the traceback.
        assert "in a worker process" in caught.value.__notes__[0]
        assert "in __getitem__" in caught.value.__notes__[0]
    if expected is WorkerLost:
        assert caught.value.exit_code == EXIT_CRASH


def test_workers_end_when_the_loader_is_closed():
    reader = Reader(Numbers(1000), [], 0, True)
    loader = Loader(BatchPlan(reader, make_mesh(), 8, 0, 1000), workers=2)
    next(iter(loader))
    assert len(children()) == 2
    loader.close()
    assert not children()
