"""Batches of the loader: order, contents, and unreadable records."""

import contextlib
import dataclasses
import os
import signal
import threading

import numpy as np
import pytest

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.loading.batch_loader import BatchPlan
from imgcls.data.loading.loader import Loader
from imgcls.data.loading.memory import Memory
from imgcls.data.loading.order import example_at
from imgcls.data.loading.reader import Reader
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS
from tests.conftest import make_mesh


@dataclasses.dataclass
class Numbers:
    """Images with all pixels equal to the example's index; some are unreadable."""

    length: int
    unreadable: tuple[int, ...] = ()
    size: int = 4

    class_names = ("even", "odd")
    multi_label = False

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.unreadable:
            raise DataError(f"{self.name(index)}: truncated")
        return {
            "image": np.full((self.size, self.size, 1), index % 256, np.uint8),
            "label": index % 2,
        }

    def name(self, index):
        return f"number {index}"


def read(source, steps=None, *, batch_size=8, mesh=None, first=0, train=True, **options):
    """The batches of some steps as NumPy arrays, and the loader's count of unreadable records."""
    reader_options = {k: options.pop(k) for k in ("on_error", "transforms") if k in options}
    reader = Reader(source, reader_options.pop("transforms", []), 3, train, **reader_options)
    steps = -(-len(source) // batch_size) if steps is None else steps
    loader = Loader(
        BatchPlan(reader, mesh or make_mesh(), batch_size, first, first + steps), **options
    )
    with contextlib.closing(loader):
        batches = [{k: np.asarray(v) for k, v in batch.items()} for batch in loader]
    return batches, loader.skipped


def join(batches, key):
    return np.concatenate([b[key] for b in batches])


def test_batches_follow_the_order_across_epochs():
    batches, _ = read(Numbers(20), steps=7)
    expected = [example_at(3, p, 20) for p in range(56)]
    np.testing.assert_array_equal(join(batches, "index"), expected)
    np.testing.assert_array_equal(join(batches, "image")[:, 0, 0, 0], expected)
    np.testing.assert_array_equal(join(batches, "label"), np.array(expected) % 2)
    assert {k: v.dtype.name for k, v in batches[0].items()} == {
        "image": "uint8",
        "label": "int32",
        "index": "int32",
        "mask": "float32",
    }
    assert (join(batches, "mask") == 1).all()


@pytest.mark.parametrize("options", [{}, {"threads": 1}, {"threads": 7, "prefetch": 5}])
def test_later_start_and_threads_give_the_same_batches(options):
    transforms = spec.parse("pad_crop(4)|flip|rand_augment(2, 10)", TRANSFORMS, "here")
    full, _ = read(Numbers(50), steps=9, transforms=transforms)
    part, _ = read(
        Numbers(50), steps=4, first=5, transforms=transforms, mesh=make_mesh(data=4), **options
    )
    for ours, theirs in zip(part, full[5:], strict=True):
        for key, value in theirs.items():
            np.testing.assert_array_equal(ours[key], value)


def test_evaluation_counts_every_example_once_and_pads():
    batches, _ = read(Numbers(21), train=False, mesh=make_mesh(data=4))
    index, mask = join(batches, "index"), join(batches, "mask")
    np.testing.assert_array_equal(index[mask == 1], np.arange(21))
    np.testing.assert_array_equal(index[mask == 0], [-1, -1, -1])
    assert (join(batches, "image")[mask == 0] == 0).all()


def test_unreadable_record_fails_by_name():
    with pytest.raises(DataError, match="number 13: truncated"):
        read(Numbers(20, unreadable=(13,)), steps=3)


def test_unreadable_record_is_replaced_in_training():
    full, _ = read(Numbers(20), steps=5)
    batches, skipped = read(Numbers(20, unreadable=(13, 14, 19)), steps=5, on_error="skip")
    replaced = {13: 15, 14: 15, 19: 0}
    expected = [replaced.get(i, i) for i in join(full, "index").tolist()]
    np.testing.assert_array_equal(join(batches, "index"), expected)
    np.testing.assert_array_equal(join(batches, "image")[:, 0, 0, 0], expected)
    cost = {13: 2, 14: 1, 19: 1}
    assert skipped == sum(cost.get(i, 0) for i in join(full, "index").tolist())


def test_unreadable_record_is_masked_out_in_evaluation():
    batches, skipped = read(Numbers(20, unreadable=(0, 13)), train=False, on_error="skip")
    index, mask = join(batches, "index"), join(batches, "mask")
    np.testing.assert_array_equal(index[mask == 1], [i for i in range(20) if i not in (0, 13)])
    assert skipped == 2 and {0, 13} <= set(index[mask == 0].tolist())


def test_no_readable_records():
    source = Numbers(300, unreadable=tuple(range(300)))
    with pytest.raises(DataError, match="in a row are unreadable"):
        read(source, steps=1, on_error="skip")


def test_images_of_several_shapes_are_refused():
    class Growing(Numbers):
        def __getitem__(self, index):
            return {"image": np.zeros((index + 1, 4, 1), np.uint8), "label": 0}

    with pytest.raises(
        ConfigError, match=r"number \d+ has the shape \(\d, 4, 1\) after the transforms"
    ):
        read(Growing(8), steps=1)


def test_close_leaves_no_thread_behind():
    before = threading.active_count()
    reader = Reader(Numbers(1000), [], 0, True)
    loader = Loader(BatchPlan(reader, make_mesh(), 8, 0, 1000))
    next(iter(loader))
    loader.close()
    for thread in threading.enumerate():
        if thread.name.startswith(("grain", "Thread")):
            thread.join(timeout=5)
    assert threading.active_count() <= before + 1


def test_source_error_in_the_middle_of_an_epoch_is_raised_not_hung():
    """An error in a thread is raised in the training loop with its own type."""

    class Breaks(Numbers):
        def __getitem__(self, index):
            if index == 11:
                raise ZeroDivisionError("eleven")
            return super().__getitem__(index)

    previous = signal.signal(signal.SIGALRM, lambda *_: os._exit(9))
    signal.alarm(60)
    try:
        with pytest.raises(ZeroDivisionError, match="eleven"):
            read(Breaks(20), steps=3)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def test_memory_is_reused_only_without_references():
    memory = Memory()
    first = memory.empty((4, 5), np.dtype(np.int32))
    first[:] = 7
    address, part = first.ctypes.data, first[1:, 2]
    second = memory.empty((4, 5), np.dtype(np.int32))
    assert second.ctypes.data != address
    del first
    # There is still a reference to a part of it.
    third = memory.empty((4, 5), np.dtype(np.int32))
    third[:] = 8
    assert third.ctypes.data != address and (part == 7).all()
    del part
    assert memory.empty((5, 4), np.dtype(np.int32)).ctypes.data == address


def test_batches_keep_their_values_while_later_ones_are_made():
    """On a CPU, JAX's arrays may share the memory of the NumPy arrays."""
    reader = Reader(Numbers(64, size=64), [], 3, True)
    loader = Loader(BatchPlan(reader, make_mesh(), 8, 0, 24), threads=2)
    kept = []
    for step, batch in enumerate(loader):
        if step % 3 == 0:
            kept.append((batch["image"], np.array(batch["image"])))
    loader.close()
    for image, then in kept:
        np.testing.assert_array_equal(image, then)
