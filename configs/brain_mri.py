"""T1-weighted MRI of the head: 3D ResNet-18 on the whole brain, such as patients against controls.

    python -m imgcls.main --config=configs/brain_mri.py:data=manifest:/data/adni.csv --workdir=...

The manifest has the columns `path` (NIfTI files), `label` and `group` (the subject), so that the
scans of a subject are in one split: Wen et al. 2020, arXiv:1904.07773, found that more than half of
the studies they reviewed may have had them in two. Target, not yet reproduced: their balanced
accuracy of .85 for Alzheimer's disease against controls on ADNI, by a 3D network on whole volumes;
a linear classifier of voxels was as good. They register scans to a template; here they are only
turned to the axes of the patient and resampled. Left and right are not exchanged.
"""

from ml_collections import ConfigDict


def get_config(data: str = "manifest:scans.csv", epochs: int = 50, width: int = 32) -> ConfigDict:
    """Returns the config.

    Args:
      data: source of the scans.
      epochs: length of training.
      width: channels of the first stage.
    """
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 8

    # MedicalNet's weights fit with `width=64` and `--config.init_from`.
    c.model = ConfigDict(dict(name="resnet3d_18", width=width, shortcut="pad", drop_path=0.1))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax"))

    c.data = ConfigDict()
    c.data.source = data
    c.data.channels = 1
    # 192 mm in each direction. z_score passes over voxels of 0: air, or all without the brain.
    head = "resample((2, 2, 2))|center_crop3d(96)|pad3d(96)|z_score"
    c.data.eval_transform = head
    c.data.train_transform = f"{head}|affine3d(10, scale=(0.95, 1.05), translate=0.05)|noise3d"
    # Voxels become z-scores.
    c.data.mean = (0.5,)
    c.data.std = (0.125,)

    c.optim = ConfigDict()
    c.optim.name = "adamw"
    c.optim.learning_rate = 3e-4
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 percent"

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="val", every="2 epochs"))
    c.evaluators.test = ConfigDict(dict(split="test", every="100 percent"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "2 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
