"""The audit of volumes: planted scanners, patients, duplicates and empty scans."""

import json
import re

import numpy as np
import pytest
from scipy import ndimage

from imgcls.audit import checks, headers, shortcuts, volumes
from imgcls.audit.__main__ import main
from imgcls.core.errors import ConfigError
from imgcls.data.files import read_example
from tests.conftest import exit_code
from tests.data.scans import write_dicom, write_mrc, write_nifti

SHAPE = (32, 40, 40)


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch):
    monkeypatch.setattr(checks, "find_shortcuts", lambda p, s: shortcuts.find_shortcuts(p, s, 999))


def draw(seed: int, shape=SHAPE) -> np.ndarray:
    """Blurred noise, int16."""
    noise = np.random.default_rng(seed).normal(0, 1, shape)
    return (2000 * ndimage.gaussian_filter(noise, 2)).astype(np.int16)


def audit(data, out, *args: str) -> tuple[int, dict, str]:
    code = exit_code(lambda: main([f"--data=folder:{data}", f"--out={out}", *args]))
    return code, json.loads((out / "audit.json").read_text()), (out / "audit.html").read_text()


def place(root, index: int):
    folder = root / ("train", "test")[index // 2 % 2] / ("ill", "well")[index % 2]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_scanners_sites_and_patients(tmp_path):
    """The ill were scanned in another hospital; patient 4711 is in both splits."""
    for i in range(48):
        write_dicom(
            place(tmp_path / "data", i) / f"scan{i:02}",
            draw(i, (4, 12, 12)),
            Manufacturer="Acme",
            ManufacturerModelName="One" if i % 2 else "Two",
            InstitutionName=f"Practice of Dr. {'Moreau' if i % 2 else 'Hyde'}",
            PatientID="J-4711" if i in (9, 10) else f"P-{i}",
        )
    code, found, page = audit(tmp_path / "data", tmp_path / "out")
    texts = [f["text"] for f in found["findings"] if f["level"] == "finding"]
    assert code == 1
    for name in ("site", "scanner model"):
        assert any(t.startswith(f"{name} alone predicts the class with 100%") for t in texts)
    (shared,) = [t for t in texts if "patient" in t]
    assert shared.startswith("1 patient with scans in two splits") and "group" in shared
    assert found["properties"]["site"]["values"] == {"site 1": 24, "site 2": 24}
    assert found["properties"]["plane"]["values"] == {"axial": 48}
    assert found["properties"]["scanner"]["values"] == {"Acme": 48}
    assert found["properties"]["spacing D"] == dict(pictures=48, min=2.5, median=2.5, max=2.5)
    # Bytes of pictures may spell anything.
    for text in (re.sub(r'"data:[^"]*"', "", page), json.dumps(found)):
        assert not any(name in text for name in ("Moreau", "Hyde", "4711", "Doe", "Jane"))


def test_duplicates_and_empty_volumes(tmp_path):
    data = tmp_path / "data"
    for i in range(24):
        write_nifti(place(data, i) / f"{i:02}.nii.gz", draw(i), spacing=(2, 1, 1))
    # In the other split: the same voxels in another orientation, and the same scan resampled.
    write_nifti(place(data, 2) / "turned.nii", draw(0), ("L", "S", "A"), (2, 1, 1))
    coarse = ndimage.zoom(draw(1).astype(np.float32), 0.75, order=1, grid_mode=True, mode="nearest")
    write_nifti(place(data, 3) / "resampled.nii", coarse, spacing=(2.67, 1.33, 1.33))
    write_nifti(place(data, 0) / "constant.nii", np.full(SHAPE, 7, np.int16))
    empty = np.zeros(SHAPE, np.int16)
    empty[3, 3, 3] = 500
    write_nifti(place(data, 1) / "empty.nii", empty)
    write_nifti(place(data, 0) / "large.nii", draw(90, (70, 80, 80)))
    broken = draw(91).astype(np.float32)
    broken[0, 0, 0] = np.nan
    write_mrc(place(data, 1) / "broken.mrc", broken)
    (place(data, 1) / "truncated.nii").write_bytes((data / "train/ill/00.nii.gz").read_bytes()[:60])
    code, found, page = audit(data, tmp_path / "out")
    assert code == 1 and found["pictures"] == 30
    names = lambda rows: [row["name"].rpartition("/")[2] for row in rows]  # noqa: E731
    assert [names(g["pictures"]) for g in found["duplicates"]["exact"]] == [
        ["00.nii.gz", "turned.nii"]
    ]
    assert [names(g["pictures"]) for g in found["duplicates"]["near"]] == [
        ["01.nii.gz", "resampled.nii"]
    ]
    issues = {issue: names(rows) for issue, rows in found["quality"].items()}
    assert issues == {
        "constant": ["constant.nii"],
        "nearly_empty": ["empty.nii"],
        "not_finite": ["broken.mrc"],
        "odd_size": ["large.nii"],
    }
    assert names(found["unreadable"]) == ["truncated.nii"]
    assert found["properties"]["file format"]["values"]["NIfTI int16"] == 28
    assert "with the same value in all voxels" in page and "data:image/" in page


def test_images_and_volumes_are_not_one_dataset(tmp_path):
    from PIL import Image

    for i in range(4):
        write_nifti(place(tmp_path, i) / f"{i}.nii", draw(i))
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(place(tmp_path, i) / f"{i}.png")
    with pytest.raises(ConfigError, match="--data: has images and volumes; keep one kind"):
        main([f"--data=folder:{tmp_path}", f"--out={tmp_path / 'out'}"])


def test_shrink_averages():
    cube = draw(0, (12, 15, 6)).astype(np.float32)
    expected = cube.reshape(3, 4, 3, 5, 3, 2).mean((1, 3, 5))
    np.testing.assert_allclose(volumes.shrink(cube, 3), expected, rtol=1e-4, atol=1e-3)
    # Cells of half a voxel, and a cell of one voxel and a half.
    line = np.arange(3, dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(volumes.shrink(line, 6)[:, 0, 0], [0, 0, 1, 1, 2, 2], atol=1e-6)
    np.testing.assert_allclose(volumes.shrink(line, 2)[:, 0, 0], [1 / 3, 5 / 3], atol=1e-6)


def test_broken_headers_have_no_origin(tmp_path):
    path = write_dicom(tmp_path, draw(0, (1, 8, 8)), MagneticFieldStrength="1.5")[0]
    origin = headers.read_origin(read_example(str(path)), "x")
    assert origin["field strength"] == "1.5" and len(origin["patient"]) == 24
    assert headers.read_origin(bytes(128) + b"DICM" + b"\xff" * 40, "x") == {}
    numbers = headers.number_pseudonyms("site", np.array(["b", "", "a", "b"]))
    assert list(numbers) == ["site 1", "", "site 2", "site 1"]
