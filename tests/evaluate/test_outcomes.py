"""Outcomes of a model against logits computed independently."""

import numpy as np
import pytest
from PIL import Image

from imgcls.data.create import open_split
from imgcls.evaluate.evaluators.classification import Classification
from imgcls.evaluate.outcomes import OutcomeReader
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import load_trained
from tests.make import draw_pictures, save_run

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of three classes, and 21 images in class folders, two of them broken."""
    root = tmp_path_factory.mktemp("outcomes")
    saved, pictures = save_run(root / "run", CLASSES), draw_pictures(21)
    for number, pixels in enumerate(pictures):
        folder = root / "data" / "test" / CLASSES[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    for broken in ("a/00", "c/17"):
        (root / "data" / "test" / f"{broken}.png").write_bytes(b"not an image")
    return saved, pictures, root / "data"


def number_of(name: str) -> int:
    return int(name[-6:-4])


@pytest.mark.parametrize("batch_size", [8, 64])
def test_every_example_in_order(run, batch_size):
    saved, pictures, data = run
    trained = load_trained(find_checkpoint(saved.workdir))
    config = trained.config
    config.data.update({"source": f"folder:{data}", "on_error": "skip", "workers": 0})
    source = open_split(config, "test")
    zero = {**trained.params, "head": {k: v * 0 for k, v in trained.params["head"].items()}}
    variables = {
        prefix: (p, trained.model_state) for prefix, p in (("", trained.params), ("x_", zero))
    }
    reader = OutcomeReader(config, trained.objective, trained.mesh, batch_size)
    found = reader.read(variables, source)
    assert list(found) == ["", "x_"]
    p = found[""]
    assert (p.class_names, p.task, len(p), p.skipped) == (CLASSES, "softmax", 19, 2)
    numbers = [number_of(name) for name in p.names]
    assert numbers == [*range(3, 19, 3), *range(1, 21, 3), *(n for n in range(2, 21, 3) if n != 17)]
    assert [source.name(i) for i in p.index] == p.names
    assert p.labels.tolist() == [n % 3 for n in numbers]
    logits = saved.logits(pictures[numbers])
    np.testing.assert_allclose(p.logits, logits, atol=1e-4)
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(p.scores, scores, atol=1e-5)
    np.testing.assert_allclose(p.losses, -np.log(scores)[np.arange(19), p.labels], atol=1e-4)
    np.testing.assert_allclose(found["x_"].scores, 1 / 3, rtol=1e-6)
    # The evaluator gives the same outcomes, and their metrics.
    evaluator = Classification(
        config, trained.objective, trained.mesh, trained.info, "test", batch_size
    )
    again = evaluator.outcomes({"": variables[""]})[""]
    np.testing.assert_array_equal(again.logits, p.logits)
    accuracy = evaluator.run({"": variables[""]})["accuracy"]
    assert accuracy == pytest.approx(np.mean(p.scores.argmax(1) == p.labels))
