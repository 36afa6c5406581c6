"""Few-shot accuracy against scikit-learn's ridge classifier on the drawn examples."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifierCV
from sklearn.preprocessing import StandardScaler

from imgcls.core.errors import ConfigError
from imgcls.evaluate.evaluators.few_shot import ALPHAS, FewShot, draw
from tests.conftest import make_mesh
from tests.evaluate.cases import (
    INFO,
    Linear,
    draw_variables,
    features_of,
    make_config,
    read_digits,
)

VARIABLES = draw_variables()


def make_evaluator(**options):
    return FewShot(make_config(), Linear(), make_mesh(), INFO, **options)


def test_equals_scikit_learn():
    found = make_evaluator(shots=(1, 4), trials=3, batch_size=70).run({"": VARIABLES})
    images, labels = read_digits("train")
    test, test_labels = read_digits("test")
    test = features_of(VARIABLES, test)
    drawn = draw([np.flatnonzero(labels == c) for c in range(10)], 4, 3, seed=0)
    assert found.keys() == {f"accuracy_{n}shot{s}" for n in (1, 4) for s in ("", "_std")}
    for shots in (1, 4):
        scores = []
        for trial in range(3):
            rows = drawn[trial, :, :shots].ravel()
            x, y = features_of(VARIABLES, images[rows]), labels[rows]
            np.testing.assert_array_equal(np.bincount(y), [shots] * 10)
            scaler = StandardScaler().fit(x)
            model = RidgeClassifierCV(alphas=ALPHAS).fit(scaler.transform(x), y)
            scores.append(model.score(scaler.transform(test), test_labels))
        assert found[f"accuracy_{shots}shot"] == pytest.approx(np.mean(scores), abs=0.003)
        assert found[f"accuracy_{shots}shot_std"] == pytest.approx(np.std(scores), abs=0.003)
    assert 0.2 < found["accuracy_1shot"] < found["accuracy_4shot"] < 1


def test_reads_only_the_shots():
    evaluator = make_evaluator(shots=(2,), trials=3)
    assert len(evaluator.train_source) <= 2 * 3 * 10
    assert evaluator.protocol == (
        "few_shot: ridge on standardized backbone features of 2 examples per class of "
        "train (1,438), mean of 3 draws; evaluated on test (359)"
    )


def test_draws():
    members = [np.arange(5), np.arange(10, 22)]
    drawn = draw(members, 4, 50, seed=3)
    assert drawn.shape == (50, 2, 4)
    for trial in drawn:
        for row, m in zip(trial, members, strict=True):
            assert len(set(row)) == 4 and set(row) <= set(m)
    # The same for the same seed, different for another, and every example is drawn first at times.
    np.testing.assert_array_equal(drawn, draw(members, 4, 50, seed=3))
    assert (drawn != draw(members, 4, 50, seed=4)).any()
    assert set(drawn[:, 0, 0]) == set(members[0])


def test_class_with_too_few_examples_is_named():
    pattern = (
        r"shots=\(1, 9\) of train_split='train\[:80\]': class '.' has \d examples, fewer than 9"
    )
    with pytest.raises(ConfigError, match=pattern):
        make_evaluator(train_split="train[:80]", shots=(1, 9))
