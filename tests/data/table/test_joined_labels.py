"""The labels of an image in one cell, written and read."""

import io

import numpy as np
import pytest

from imgcls.data.sources.open import open_dataset
from imgcls.data.table.labels import join_labels, split_labels
from imgcls.predict import formats
from imgcls.predict.prediction import Prediction


@pytest.mark.parametrize(
    ("text", "separator", "labels"),
    [
        ("a|b", "|", ["a", "b"]),
        (r"a\|b|c", "|", ["a|b", "c"]),
        (r"a\\|b", "|", ["a\\", "b"]),
        (r"C:\new|b", "|", [r"C:\new", "b"]),
        (r"a\:\:b::c", "::", ["a::b", "c"]),
        (r"a\|b", "", [r"a\|b"]),
        ("", "|", [""]),
    ],
)
def test_split(text, separator, labels):
    assert split_labels(text, separator) == labels


@pytest.mark.parametrize("separator", ["|", ";", "||"])
def test_what_is_joined_is_split(separator):
    rng = np.random.default_rng(0)
    for _ in range(2000):
        lengths = rng.integers(1, 5, rng.integers(1, 4))
        names = ["".join(rng.choice(list("ab|;\\"), length)) for length in lengths]
        assert split_labels(join_labels(names, separator), separator) == names


def test_training_on_predictions_of_a_class_with_a_separator(tmp_path):
    """A class folder `a|b` stays one class in the predictions, and in what is trained on these."""
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"x")
    scores = {"a|b": 0.75, "c": 0.25}
    values = np.array([*scores.values()], np.float32)
    predictions = [
        Prediction(str(tmp_path / name), [label], scores, values)
        for name, label in (("1.png", "a|b"), ("2.png", "c"))
    ]
    out = io.StringIO(newline="")
    formats.write_csv(out, predictions, "|")
    (tmp_path / "new.csv").write_text(out.getvalue())
    source = open_dataset(f"manifest:{tmp_path / 'new.csv'}").open("train")
    assert (source.class_names, source.multi_label) == (("a|b", "c"), False)
