"""Invalid entries: counted, named, and left out or refused."""

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import create_source, open_dataset
from imgcls.data.table import problems as kinds
from imgcls.data.table.problems import Problems
from tests.data.table.reading import names, skipped


def test_every_problem_is_named(manifest, tmp_path):
    header = ("path", "label", "split", "group")
    rows = [(f"good{i}.jpg", "x", "train", "g") for i in range(3)]
    rows += [("good3.jpg", "x", "test", "h"), ("cut.jpg", "x", "test", "g")]
    rows += [
        ("none.jpg", "", "train", ""),
        ("both.jpg", "x", "train", ""),
        ("both.jpg", "x", "train", ""),
    ]
    rows += [("odd.jpg", "x", "train", ""), ("./odd.jpg", "y", "train", "")]
    spec = manifest(rows, header)
    gone = [(f"no{i}.jpg", "x", "train", "") for i in range(5)]
    spec = manifest([*rows, *gone], header, write_images=False)
    found = skipped(spec)
    assert found.names == {
        kinds.MISSING: [f"no{i}.jpg" for i in range(5)],
        kinds.DUPLICATE: ["both.jpg"],
        kinds.CONFLICT: ["odd.jpg"],
        kinds.UNLABELED: ["none.jpg"],
        kinds.TWO_SPLITS: ["g: test and train"],
    }
    assert found.counts[kinds.MISSING] == 5 and len(found.lines()) == 5
    assert f"5 x {kinds.MISSING} (no0.jpg, no1.jpg, no2.jpg, ...)" in str(found)
    data = open_dataset(spec, on_error="skip")
    assert names(data.open("train")) == ["both.jpg", "good0.jpg", "good1.jpg", "good2.jpg"]
    assert names(data.open("test")) == ["good3.jpg"]


def test_problems_of_all_splits_count(manifest):
    """Opening one split also checks the others."""
    rows = [("a.jpg", "x", "train"), ("b.jpg", "", "test")]
    with pytest.raises(ConfigError, match="b.jpg"):
        create_source(manifest(rows, ("path", "label", "split")), "train")


def test_all_entries_skipped(manifest):
    spec = manifest([("a.jpg", "x")], write_images=False)
    with pytest.raises(ConfigError, match="split 'train': holds no examples"):
        create_source(spec, "train", on_error="skip")


def test_only_the_first_problems_are_named():
    found = Problems()
    for i in range(250):
        found.add(kinds.MISSING, f"{i}.jpg")
    assert found.counts == {kinds.MISSING: 250} and found
    assert found.names[kinds.MISSING] == [f"{i}.jpg" for i in range(100)]
    assert not Problems()
