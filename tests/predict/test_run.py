"""`imgcls.load`: predictions against direct use of the model, all kinds of input, mistakes."""

import io
import itertools
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit, softmax

import imgcls
from imgcls.core.errors import ConfigError, DataError
from imgcls.evaluate.calibration import Calibration, save_calibration
from imgcls.models.create import create_model
from imgcls.models.registry import list_models
from imgcls.predict.explain import heat_maps, overlay
from imgcls.predict.images import ImageInputs
from imgcls.runs.load import find_checkpoint
from tests.make import draw_pictures, save_run

CLASSES = ("cat", "dog", "ant|bee", "=fox")
IMAGES = draw_pictures(8)
MIRRORED = IMAGES[:, :, ::-1]
THRESHOLDS = np.array([0.2, 0.7, 0.45, 0.9])
TEMPERATURE = 1.7


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A single-label run, and the saved model."""
    saved = save_run(tmp_path_factory.mktemp("single") / "work", CLASSES)
    return imgcls.load(saved.workdir), saved


@pytest.fixture(scope="module")
def multi(tmp_path_factory):
    """A calibrated multi-label run, and the saved model."""
    saved = save_run(tmp_path_factory.mktemp("multi"), CLASSES, multi_label=True, loss="sigmoid")
    save_calibration(find_checkpoint(saved.workdir), Calibration(TEMPERATURE, THRESHOLDS), CLASSES)
    return imgcls.load(saved.workdir), saved


@pytest.fixture
def files(tmp_path):
    """The images as PNGs: the first four in a folder, the others in a subfolder."""
    (tmp_path / "deeper").mkdir()
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / ("deeper" if i >= 4 else "") / f"{i}.png")
    return tmp_path


def stack(predictions) -> np.ndarray:
    return np.stack([prediction.probabilities for prediction in predictions])


def check_scores(prediction, probabilities: np.ndarray, top_k: int) -> None:
    """Checks that the best classes are first, each with its probability."""
    expected = sorted(zip(probabilities, CLASSES, strict=True), reverse=True)[:top_k]
    assert list(prediction.scores) == [name for _, name in expected]
    np.testing.assert_allclose(
        list(prediction.scores.values()), [score for score, _ in expected], rtol=1e-4, atol=1e-6
    )


# ---- Probabilities and labels.


def test_one_label(single):
    run, saved = single
    expected = softmax(saved.logits(IMAGES), axis=1)
    found = run.predict(IMAGES, top_k=3)
    np.testing.assert_allclose(stack(found), expected, rtol=1e-4, atol=1e-6)
    for prediction, row in zip(found, expected, strict=True):
        assert prediction.labels == [CLASSES[row.argmax()]] and prediction.path is None
        check_scores(prediction, row, 3)
    assert len({prediction.labels[0] for prediction in found}) > 1
    assert (run.name, run.class_names, run.task) == ("work-7", CLASSES, "softmax")


def test_flip_averages_with_the_mirror_image(single):
    run, saved = single
    both = [softmax(saved.logits(images), axis=1) for images in (IMAGES, MIRRORED)]
    assert np.abs(both[0] - both[1]).max() > 0.1
    found = stack(run.predict(IMAGES, flip=True))
    np.testing.assert_allclose(found, np.mean(both, axis=0), rtol=1e-4, atol=1e-6)


def test_two_classes_of_one_logit(tmp_path):
    saved = save_run(tmp_path, ("no", "yes"), loss="binary")
    save_calibration(find_checkpoint(tmp_path), Calibration(TEMPERATURE), ("no", "yes"))
    yes = expit(saved.logits(IMAGES)[:, 0] / TEMPERATURE)
    found = imgcls.load(tmp_path).predict(IMAGES)
    np.testing.assert_allclose(stack(found), np.stack([1 - yes, yes], 1), rtol=1e-4, atol=1e-6)
    assert [p.labels for p in found] == [["yes" if p > 0.5 else "no"] for p in yes]


def apply_thresholds(probabilities: np.ndarray, thresholds) -> list[list[str]]:
    """Returns the classes that reach their threshold, the most probable first, by a loop."""
    labels = []
    for row in probabilities:
        pairs = [(p, CLASSES[c]) for c, p in enumerate(row) if p >= thresholds[c]]
        labels.append([name for _, name in sorted(pairs, reverse=True)])
    return labels


def test_multi_label(multi):
    run, saved = multi
    expected = expit(saved.logits(IMAGES) / TEMPERATURE)
    found = run.predict(IMAGES)
    np.testing.assert_allclose(stack(found), expected, rtol=1e-4, atol=1e-6)
    for prediction, row in zip(found, expected, strict=True):
        check_scores(prediction, row, 4)

    def labels(threshold):
        return [p.labels for p in run.predict(IMAGES, top_k=1, threshold=threshold)]

    choices = {
        "calibrated": (None, THRESHOLDS),
        "one for all classes": (0.9, [0.9] * 4),
        "for some classes": ({"=fox": 0.1, "cat": 1}, [1, 0.7, 0.45, 0.1]),
    }
    by_choice = {name: apply_thresholds(expected, least) for name, (_, least) in choices.items()}
    for name, (threshold, _) in choices.items():
        assert labels(threshold) == by_choice[name], name
    assert all(a != b for a, b in itertools.combinations(by_choice.values(), 2))
    assert {len(row) for rows in by_choice.values() for row in rows} >= {0, 1, 2}
    assert labels(0) == apply_thresholds(stack(found), [0] * 4)
    # A probability equal to the threshold reaches it.
    exact = found[0].probabilities.min()
    assert len(run.predict(IMAGES[0], threshold=float(exact))[0].labels) == 4


def test_multi_label_without_calibration(tmp_path):
    saved = save_run(tmp_path, CLASSES, multi_label=True, loss="sigmoid")
    expected = expit(saved.logits(IMAGES))
    run = imgcls.load(tmp_path)
    assert [p.labels for p in run.predict(IMAGES)] == apply_thresholds(expected, [0.5] * 4)


def test_one_label_below_its_threshold(single):
    run, saved = single
    probabilities = softmax(saved.logits(IMAGES), axis=1)
    best = [CLASSES[row.argmax()] for row in probabilities]
    top = probabilities.max(1)
    middle = float(np.sort(top)[3:5].mean())
    found = [p.labels for p in run.predict(IMAGES, threshold=middle)]
    assert found == [[name] if p >= middle else [] for name, p in zip(best, top, strict=True)]
    # A threshold for one class does not affect the others.
    found = [p.labels for p in run.predict(IMAGES, threshold={best[0]: 1.0})]
    assert found == [[] if name == best[0] else [name] for name in best]


# ---- Kinds of input.


def test_all_kinds_of_one_image(single, files):
    run, saved = single
    path = files / "0.png"
    image = Image.open(path)
    expected = softmax(saved.logits(IMAGES[:1]), axis=1)
    kinds = [str(path), path, path.read_bytes(), image, image.copy(), IMAGES[0]]
    for kind in (*kinds, kinds, iter(kinds), IMAGES[:1]):
        found = run.predict(kind)
        assert len(found) == (6 if isinstance(kind, list) or hasattr(kind, "__next__") else 1)
        expected_rows = np.repeat(expected, len(found), axis=0)
        np.testing.assert_allclose(stack(found), expected_rows, rtol=1e-4, atol=1e-6)
    paths = [p.path for p in run.predict(kinds)]
    assert paths == [str(path), str(path), None, None, None, None]


def test_folders_and_globs(single, files):
    run, saved = single
    expected = softmax(saved.logits(IMAGES), axis=1)
    names = [str(files / f"{i}.png") for i in range(4)]
    names += [str(files / "deeper" / f"{i}.png") for i in range(4, 8)]
    (files / "__MACOSX").mkdir()
    (files / "__MACOSX" / "._0.png").write_bytes(b"left behind")
    for images, chosen in (
        (files, range(8)),
        (str(files / "*.png"), range(4)),
        # In the given order, with repetitions.
        ([names[5], files / "deeper", names[5]], [5, 4, 5, 6, 7, 5]),
    ):
        found = run.predict(images)
        assert [p.path for p in found] == [names[i] for i in chosen]
        np.testing.assert_allclose(stack(found), expected[list(chosen)], rtol=1e-4, atol=1e-6)


def test_arrays_with_any_number_of_channels(single):
    run, saved = single
    gray = IMAGES[:, :, :, 0]
    colored = softmax(saved.logits(np.repeat(gray[..., None], 3, axis=-1)), axis=1)
    transparent = np.concatenate([IMAGES, np.full_like(IMAGES[..., :1], 9)], axis=-1)
    for images, expected in (
        (list(gray), colored),
        (gray[..., None], colored),
        (transparent, softmax(saved.logits(IMAGES), axis=1)),
    ):
        np.testing.assert_allclose(stack(run.predict(images)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("CMYK", "tif"), ("P", "png"), ("LA", "png"), ("1", "png"), ("I;16", "png"), ("RGB", "jpg")],
)
def test_open_image_equals_its_file(single, tmp_path, mode, suffix):
    image = Image.fromarray(IMAGES[3])
    if mode == "I;16":
        image = Image.fromarray(IMAGES[3, :, :, 0].astype(np.uint16) * 257)
    path = tmp_path / f"picture.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6  # A quarter turn.
    image.convert(mode).save(path, **({"exif": exif} if suffix == "jpg" else {}))
    encoded = [ImageInputs(item, CLASSES)[0]["image"] for item in (path, Image.open(path))]
    assert encoded[0] != encoded[1]
    run, _ = single
    from_file, from_image = stack(run.predict([path, Image.open(path)]))
    np.testing.assert_array_equal(from_image, from_file)


def test_no_images(single):
    run, _ = single
    assert run.predict([]) == [] and run.explain([]) == [] and len(run.features([])) == 0


# ---- Errors.


def test_unreadable_images(single, files):
    run, saved = single
    broken = b"\x89PNG\r\n\x1a\nbroken"
    (files / "broken.png").write_bytes(broken)
    cut = io.BytesIO((files / "2.png").read_bytes()[:-40])
    images = [files / "1.png", files / "broken.png", IMAGES[2], broken, files / "gone.png"]
    images.append(Image.open(cut))
    with pytest.raises(DataError, match="broken.png: "):
        run.predict(images)
    with pytest.raises(DataError, match="image 1: "):
        run.predict([IMAGES[0], broken])
    with pytest.raises(DataError, match="gone.png: can't be read"):
        run.features(files / "gone.png")
    found = run.predict(images, on_error="skip")
    assert [p is None for p in found] == [False, True, False, True, True, True]
    expected = softmax(saved.logits(IMAGES[1:3]), axis=1)
    np.testing.assert_allclose(stack([found[0], found[2]]), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([[]], dict(top_k=0), "top_k=0: must be 1 or more"),
        ([[]], dict(batch_size=0), "batch_size=0: must be 1 or more"),
        ([[]], dict(threshold=1.5), "threshold=1.5: must be a number from 0 to 1"),
        ([[]], dict(threshold={"cat": True}), "must be a number from 0 to 1"),
        ([[]], dict(threshold={"cow": 0.5}), "'cow' is not a class of .*; choose one of cat, dog"),
        ([IMAGES[0]], dict(on_error="ignore"), "on_error='ignore': unknown"),
        ([np.zeros((8, 8, 3))], {}, "image 0 is a float64 array .*; pass uint8"),
        (
            [[IMAGES[0], np.zeros((8, 8, 2), np.uint8)]],
            {},
            r"image 1 is a uint8 array \[8, 8, 2\]; .*\[H, W, 3\]",
        ),
        ([[3]], {}, "image 0 has the type int; pass a path"),
        (["/no/such/*.png"], {}, "no images found"),
    ],
)
def test_mistakes(single, arguments, options, message):
    with pytest.raises(ConfigError, match=message) as e:
        single[0].predict(*arguments, **options)
    assert "\n" not in str(e.value)


def test_no_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match="no checkpoint there"):
        imgcls.load(tmp_path)


# ---- Other methods.


def test_stream_uses_constant_memory(single, monkeypatch):
    """Only a few batches are read ahead."""
    run, _ = single
    read = []
    original = ImageInputs.__getitem__
    monkeypatch.setattr(
        ImageInputs, "__getitem__", lambda self, index: read.append(index) or original(self, index)
    )
    stream = run.stream([IMAGES[0]] * 4000, batch_size=8)
    next(stream)
    time.sleep(0.3)
    assert 8 <= len(set(read)) <= 100
    stream.close()


def test_features_are_the_inputs_of_the_head(single):
    run, saved = single
    head = saved.params["head"]
    found = run.features(list(IMAGES), batch_size=3)
    logits = found @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(logits, saved.logits(IMAGES), rtol=1e-4, atol=1e-4)


def test_explain(single):
    run, saved = single
    best = saved.logits(IMAGES).argmax(1)
    for name, classes in ((None, best), ("ant|bee", np.full(8, 2))):
        maps = heat_maps(run._trained, IMAGES, classes)
        expected = [overlay(*pair) for pair in zip(IMAGES, maps, strict=True)]
        np.testing.assert_array_equal(run.explain(IMAGES, name), expected)
    with pytest.raises(ConfigError, match="'cow' is not a class"):
        run.explain(IMAGES, "cow")


def test_evaluate(tmp_path):
    classes = ("no", "yes")
    saved = save_run(tmp_path / "work", classes)
    save_calibration(find_checkpoint(saved.workdir), Calibration(3.0), classes)
    images = draw_pictures(16, seed=5)
    best = saved.logits(images).argmax(1)
    labels = np.where(np.arange(16) % 4 == 0, 1 - best, best)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "data" / "test" / classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    run = imgcls.load(saved.workdir)
    metrics = run.evaluate(source=f"folder:{tmp_path / 'data'}", bootstrap=0).metrics
    assert metrics["accuracy"] == 0.75 and metrics["examples"] == 16
    log_p = np.log(softmax(saved.logits(images) / 3, axis=1))[np.arange(16), labels]
    np.testing.assert_allclose(metrics["nll"], -log_p.mean(), rtol=1e-4)
    with pytest.raises(
        ConfigError,
        match="split 'test': 359 of 359 examples have classes that are not in the model",
    ):
        run.evaluate(source="digits")


def test_repr_of_a_prediction(single):
    prediction = single[0].predict(IMAGES[0], top_k=2)[0]
    (best, first), (other, second) = prediction.scores.items()
    assert repr(prediction) == (
        f"Prediction(None, labels=['{best}'], scores={{'{best}': {first:.3f}, "
        f"'{other}': {second:.3f}}})"
    )


@pytest.mark.parametrize("code", ["import imgcls", "from imgcls import load"])
def test_importing_imgcls_is_lazy(code):
    code = f"import sys; {code}; print(*sys.modules)"
    root = pathlib.Path(imgcls.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"jax", "numpy", "flax", "imgcls.predict.run"} & set(done.stdout.split())


def test_create_and_list_models():
    assert imgcls.create_model is create_model and imgcls.list_models is list_models
    assert "resnet18" in imgcls.list_models("resnet*")
    with pytest.raises(AttributeError, match="module 'imgcls' has no attribute 'create'"):
        imgcls.create  # noqa: B018
