"""Recipes of volumes train for a few steps on small files, and predict one of them."""

import numpy as np

import imgcls
from imgcls.main import main
from tests.data.scans import write_mrc, write_nifti

# Programs that compile in seconds.
SMALL = (
    "--config.total=2 steps",
    "--config.batch_size=8",
    "--config.model={'name': 'resnet3d_10', 'stem': 'stride2', 'width': 2, 'stage_sizes': (1, 1)}",
    "--config.schedule.warmup=0 steps",
    "--config.checkpoint.every=2 steps",
    "--config.log.every=1 steps",
)


def draw(label: int, seed: int) -> np.ndarray:
    """A bright slab across one axis, int16 `[D, H, W]`."""
    voxels = np.random.default_rng(seed).integers(0, 200, (20, 22, 24)).astype(np.int16)
    np.moveaxis(voxels, label, 0)[8:12] = 900
    return voxels


def train(recipe: str, workdir, *more: str):
    assert main([f"--config=configs/{recipe}", *SMALL, *more, f"--workdir={workdir}"]) == 0
    return imgcls.load(workdir)


def test_medmnist3d(tmp_path):
    rng, arrays = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (8, 28, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.arange(8, dtype=np.uint8)[:, None] % 2
    np.savez(tmp_path / "adrenalmnist3d.npz", **arrays)
    recipe = f"medmnist3d.py:name=adrenal,data={tmp_path / 'adrenalmnist3d.npz'}"
    run = train(recipe, tmp_path / "run")
    assert run.class_names == ("normal", "hyperplasia")
    assert run.evaluate("test", bootstrap=0).metrics.keys() >= {"roc_auc", "accuracy"}


def test_cryo_em(tmp_path):
    for name, label in (("a", 0), ("b", 2)):
        write_mrc(tmp_path / f"{name}.mrc", draw(label, 0).astype(np.float32), spacing=(4, 4, 4))
    recipe = f"cryo_em.py:data={tmp_path},maps=''"
    run = train(recipe, tmp_path / "run", "--config.evaluators.test.split=test[:16]")
    assert run.class_names == ("a", "b") and run.info.image_shape == (32, 32, 32, 1)
    (prediction,) = run.predict(str(tmp_path / "b.mrc"))
    assert prediction.labels


def test_own_volumes(tmp_path):
    for seed in range(20):
        folder = tmp_path / "scans" / ("across", "along")[seed % 2]
        folder.mkdir(exist_ok=True, parents=True)
        write_nifti(folder / f"{seed:02d}.nii", draw(seed % 2, seed), spacing=(2, 1, 1))
    recipe = f"own_volumes.py:data=folder:{tmp_path / 'scans'},size=16,spacing=2.0,values='z_score'"
    run = train(recipe, tmp_path / "run")
    assert run.info.image_shape == (16, 16, 16, 1)
    (prediction,) = run.predict(str(tmp_path / "scans" / "along" / "01.nii"))
    assert prediction.labels
