"""Dark, bright, blurry and odd images against cleanvision."""

import numpy as np
from cleanvision import Imagelab
from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager
from PIL import Image

from imgcls.audit import findings
from imgcls.audit.quality import ISSUES, find_issues, measure
from imgcls.audit.reading import read_images
from imgcls.data.sources.open import create_source
from tests.audit.planted import cifar10


def test_equals_cleanvision(shared_data, tmp_path):
    pixels, _ = cifar10(shared_data)
    images = [Image.fromarray(x) for x in [*pixels[:39], pixels[4113]]]
    images += [Image.new("RGB", (32, 32), (9, 9, 9)), Image.new("RGB", (32, 32), (254, 254, 254))]
    images += [images[0].resize((640, 640)), images[1].resize((32, 200)).convert("L")]
    for i, image in enumerate(images):
        folder = tmp_path / "train" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{i:02}.png")
    lab = Imagelab(data_path=str(tmp_path))
    lab.find_issues({issue: {} for issue in ISSUES}, n_jobs=1, verbose=False)
    read = read_images({"train": create_source(f"folder:{tmp_path}", "train")}, None, 0)
    found = find_issues(read.raw_quality, read.mode)
    order = [next(i for i, n in enumerate(read.names) if n == str(p)) for p in lab.issues.index]
    for issue in ISSUES:
        flagged = np.isin(order, found[issue][0])
        np.testing.assert_array_equal(flagged, lab.issues[f"is_{issue}_issue"], err_msg=issue)
        scores = lab.issues[f"{issue}_score"].to_numpy()
        for i, score in zip(*found[issue], strict=True):
            np.testing.assert_allclose(score, scores[order.index(i)], atol=1e-6)
    assert [issue for issue in ISSUES if not len(found[issue][0])] == []
    texts = findings.of_quality(found, len(read))
    # One of 44 is above 1 %.
    assert [f.level for f in texts if "almost black" in f.text] == ["finding"]
    assert [f.level for f in texts if "gray among" in f.text] == ["note"]


def test_large_images_are_reduced_only_for_brightness(shared_data):
    small = Image.fromarray(cifar10(shared_data)[0][0])
    large = small.resize((700, 540), Image.Resampling.BICUBIC)
    measured = measure(large)
    properties = ImagePropertyIssueManager().image_properties
    for issue in ("blurry", "odd_aspect_ratio", "odd_size"):
        for name, value in properties[issue].calculate(large).items():
            assert measured[name] == value
    for name, value in properties["dark"].calculate(large).items():
        assert abs(measured[name] - value) < 0.01


def test_issue_of_most_images_is_a_note(shared_data):
    black = {"dark": (np.arange(80), np.zeros(80))}
    assert [f.level for f in findings.of_quality(black, 100)] == ["note"]
    black = {"dark": (np.arange(8), np.zeros(8))}
    assert [f.level for f in findings.of_quality(black, 100)] == ["finding"]
