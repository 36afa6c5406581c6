"""Folders of scans through the commands."""

import json

import numpy as np
import pytest

import imgcls
from imgcls.core.errors import ConfigError
from imgcls.export.__main__ import main as export_main
from tests.data.scans import (
    ORIENTATIONS,
    write_dicom,
    write_mrc,
    write_nifti,
    write_nrrd,
    write_tiff,
)

ARGUMENTS = (
    "--config=configs/digits.py",
    "--config.total=3 steps",
    "--config.batch_size=8",
    "--config.model={'name': 'resnet3d_10', 'stem': 'cifar', 'width': 4, 'stage_sizes': (1, 1)}",
    "--config.schedule.warmup=1 step",
    "--config.evaluators.test.every=3 steps",
    "--config.checkpoint.every=3 steps",
    "--config.log.every=1 steps",
)
TRANSFORM = "resample((2.0, 2.0, 2.0))|window(0, 1000)|resize3d(8)"


def draw(label: int, seed: int) -> np.ndarray:
    """Hounsfield units `[D, H, W]`, with a bright slab across D or W."""
    voxels = np.random.default_rng(seed).integers(-900, 0, (8, 9, 10)).astype(np.int16)
    np.moveaxis(voxels, -label, 0)[3:5] = 600
    return voxels


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """30 scans `.nii.gz`, each in another orientation."""
    root = tmp_path_factory.mktemp("scans")
    for seed in range(30):
        folder = root / ("across", "along")[seed % 2]
        folder.mkdir(exist_ok=True)
        path = folder / f"{seed:02d}.nii.gz"
        write_nifti(path, draw(seed % 2, seed), ORIENTATIONS[seed], (2.0, 1.0, 1.0))
    return root


def train(here, source: str, workdir, *more: str):
    done = here(
        "main",
        *ARGUMENTS,
        f"--config.data.source={source}",
        f"--config.data.train_transform={TRANSFORM}|flip3d(axes=2)",
        f"--config.data.eval_transform={TRANSFORM}",
        *more,
        f"--workdir={workdir}",
    )
    assert done.returncode == 0, done.stderr
    return imgcls.load(workdir)


@pytest.fixture(scope="module")
def trained(here, scans, tmp_path_factory):
    return train(here, f"folder:{scans}", tmp_path_factory.mktemp("run"))


def test_every_format_gives_the_same_prediction(here, trained, tmp_path):
    voxels, spacing = draw(1, 99), (2.0, 1.0, 1.0)
    paths = [
        write_nifti(tmp_path / "a.nii", voxels, ("L", "P", "S"), spacing),
        write_nifti(tmp_path / "b.nii.gz", voxels, ("S", "L", "A"), spacing),
        write_mrc(tmp_path / "c.mrc", voxels, (3, 1, 2), spacing),
        write_mrc(tmp_path / "d.map", voxels, (2, 3, 1), spacing, compression="gzip"),
    ]
    paths.append(write_nrrd(tmp_path / "e.nrrd", voxels, ("A", "I", "R"), spacing, "gzip"))
    paths.append(write_tiff(tmp_path / "f.tif", voxels.astype(np.float32), spacing))
    assert trained.info.image_shape == (8, 8, 8, 1) and trained.info.image_dtype == "uint8"
    predictions = trained.predict([str(path) for path in paths])
    assert len({tuple(p.probabilities) for p in predictions}) == 1
    # A folder is searched as in training.
    workdir = f"--checkpoint={trained._path}"
    done = here("predict", workdir, str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines] == [str(path) for path in paths]
    assert len({json.dumps(line["predictions"]) for line in lines}) == 1
    write_dicom(tmp_path / "dicom", voxels, spacing)
    (prediction,) = trained.predict(str(tmp_path / "dicom"))
    np.testing.assert_array_equal(prediction.probabilities, predictions[0].probabilities)
    np.savez(tmp_path / "g.npz", voxels=voxels, spacing=spacing)
    (prediction,) = trained.predict(str(tmp_path / "g.npz"))
    np.testing.assert_array_equal(prediction.probabilities, predictions[0].probabilities)
    np.save(tmp_path / "h.npy", voxels)
    done = here("predict", workdir, str(tmp_path / "h.npy"))
    assert done.returncode != 0 and "h.npy: states no spacing of its voxels" in done.stderr


def test_float16_reaches_the_model(here, scans, trained, tmp_path):
    """The same run with values that are not rounded is close, and keeps its dtype."""
    float_values = TRANSFORM.replace("1000)", "1000, dtype='float16')")
    run = train(
        here,
        f"folder:{scans}",
        tmp_path / "run",
        f"--config.data.train_transform={float_values}|flip3d(axes=2)",
        f"--config.data.eval_transform={float_values}",
    )
    assert run.info.image_dtype == "float16"
    export_main(
        [f"--checkpoint={tmp_path / 'run'}", f"--to={tmp_path / 'x'}", "--format=stablehlo"]
    )
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["input"] == {"dtype": "float16", "shape": ["b", 8, 8, 8, 1]}
    path = str(write_nifti(tmp_path / "a.nii", draw(0, 7), spacing=(2.0, 1.0, 1.0)))
    (found,), (rounded,) = run.predict(path), trained.predict(path)
    np.testing.assert_allclose(found.probabilities, rounded.probabilities, atol=0.02)
    assert not np.array_equal(found.probabilities, rounded.probabilities)


def test_values_must_be_declared(here, scans, tmp_path):
    done = here(
        "main", *ARGUMENTS, f"--config.data.source=folder:{scans}",
        "--config.data.train_transform=resize3d(8)", f"--workdir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 2
    assert "00.nii.gz has values of type float32 from -8" in done.stderr


def test_a_missing_package_is_named(scans, monkeypatch):
    import sys

    from imgcls.data.decode.volume import decode_volume

    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ConfigError, match="scan: .* run `pip install -r requirements-volumes.txt`"):
        decode_volume((scans / "across" / "00.nii.gz").read_bytes(), "scan")
