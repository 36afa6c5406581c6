"""Cached sources: files are read once, up to the cache's capacity."""

import pickle
import threading

import numpy as np

from imgcls.data.sources.cached import CachedSource


class CountingSource:
    """Ten images of 100 bytes; counts how often each is read."""

    class_names = ("a", "b")
    multi_label = False
    splits = ("train", "test")

    def __init__(self):
        self.reads = [0] * 10

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.reads[index] += 1
        return {"image": bytes([index]) * 100, "label": index % 2}

    def labels(self):
        return np.arange(10) % 2

    def name(self, index):
        return f"image {index}"

    def group(self, index):
        return f"group {index // 2}"

    def metadata(self, index):
        return {"reads": self.reads[index]}


def test_each_example_is_read_once():
    source = CountingSource()
    cached = CachedSource(source, 1e6)
    for _ in range(3):
        assert [cached[i] for i in range(10)] == [CountingSource()[i] for i in range(10)]
    assert source.reads == [1] * 10
    assert len(cached) == 10


def test_other_methods_forward_to_the_source():
    cached = CachedSource(CountingSource(), 1e6)
    assert cached.class_names == ("a", "b") and cached.multi_label is False
    assert cached.splits == ("train", "test")
    assert cached.labels().tolist() == [0, 1] * 5
    assert cached.name(3) == "image 3" and cached.group(3) == "group 1"
    cached[3]
    assert cached.metadata(3) == {"reads": 1}


def test_capacity_limits_the_cache():
    source = CountingSource()
    cached = CachedSource(source, 450)
    for _ in range(3):
        for i in range(10):
            assert cached[i]["image"] == bytes([i]) * 100
    assert source.reads == [1] * 4 + [3] * 6


def test_arrays_count_in_bytes():
    class Arrays(CountingSource):
        def __getitem__(self, index):
            self.reads[index] += 1
            return {"image": np.full((5, 5, 2), index, np.uint8), "label": 0}

    source = Arrays()
    cached = CachedSource(source, 99)
    for _ in range(2):
        for i in range(10):
            cached[i]
    assert source.reads == [1] + [2] * 9


def test_threads_respect_the_capacity():
    source = CountingSource()
    cached = CachedSource(source, 500)

    def work():
        for _ in range(50):
            for i in range(10):
                assert cached[i]["image"][0] == i

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = list(source.reads)
    for i in range(10):
        cached[i]
    assert sum(np.subtract(source.reads, before)) == 5


def test_workers_get_an_empty_cache():
    cached = CachedSource(CountingSource(), 1e6)
    cached[0]
    copy = pickle.loads(pickle.dumps(cached))
    assert copy[0] == cached[0]
    assert copy.metadata(0) == {"reads": 2}
