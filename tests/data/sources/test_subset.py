"""Subsets of a source."""

import numpy as np

from imgcls.data.sources.open import create_source
from imgcls.data.sources.subset import Subset


def test_subset_is_a_source(tmp_path):
    """Every field of an example equals that of the source's example at its index."""
    (tmp_path / "all.jsonl").write_text(
        "".join(
            f'{{"image": "{i}.png", "label": "{"ab"[i % 2]}", "split": "test", "group": "g{i}", '
            f'"site": "s{i}"}}\n'
            for i in range(6)
        )
    )
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(bytes([i]))
    source = create_source(f"manifest:{tmp_path / 'all.jsonl'}", "test")
    part = Subset(source, np.array([4, 1]))
    assert len(part) == 2 and part.labels().tolist() == [0, 1]
    assert (part.splits, part.class_names) == (source.splits, source.class_names)
    assert [part.group(i) for i in range(2)] == ["g4", "g1"]
    for i, j in enumerate((4, 1)):
        assert part[i] == source[j] and part.name(i) == source.name(j)
        assert part.metadata(i) == source.metadata(j) and "s" + str(j) in str(part.metadata(i))
