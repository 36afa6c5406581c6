"""Scans or densities of your own, one or many labels each: class folders, or a manifest.

    python -m imgcls.main --config=configs/own_volumes.py:data=folder:/my/scans --workdir=...

Trains a narrow 3D ResNet from scratch, for a first result on a CPU. Files are NIfTI, DICOM series,
NRRD, MRC, TIFF stacks or `.npz` (docs/volumes.md). Give a manifest with a column `group` where a
patient has several scans, so that none of them is in two splits. Whether an example has one label
or many is read from the data. There is no published number to reach.

`values` names the values that matter: `'window(40, 400)'` for CT, `'z_score'` for MRI,
`'sigma(3)'` for densities. Nothing is flipped: add `flip3d(axes=2)` to `data.train_transform` where
left and right mean the same.
"""

from ml_collections import ConfigDict


def get_config(
    data: str,
    values: str = "percentiles(1, 99)",
    spacing: float | None = None,
    size: int = 48,
    epochs: int = 60,
    model: str = "resnet3d_10",
    width: int = 16,
) -> ConfigDict:
    """Returns the config.

    Args:
      data: source of the volumes, such as "folder:/my/scans" or "manifest:/my/scans.csv".
      values: transform that maps the values of the files to 0 to 255.
      spacing: distance of voxels that all volumes are brought to, in mm or Å, and from which the
        center is cropped; None: every volume is resized as a whole.
      size: side of the cube in voxels.
      epochs: length of training.
      model: a name of `python -m imgcls.models` that starts with resnet3d.
      width: channels of the first stage.
    """
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 16

    c.model = ConfigDict(dict(name=model, stem="stride2", width=width))
    c.objective = ConfigDict(dict(name="supervised", loss="auto"))

    c.data = ConfigDict()
    c.data.source = data
    c.data.missing_splits = "replace"
    c.data.channels = 1
    shape = f"resize3d({size})"
    if spacing is not None:
        shape = f"resample(({spacing}, {spacing}, {spacing}))|center_crop3d({size})|pad3d({size})"
    # Values first: what is padded is then the smallest value.
    first, _, rest = shape.partition("|")
    c.data.eval_transform = "|".join(filter(None, (first, values, rest)))
    c.data.train_transform = f"{c.data.eval_transform}|affine3d(10, translate=0.05)|noise3d"
    c.data.mean = (0.5,)
    c.data.std = (0.25,)

    c.optim = ConfigDict()
    c.optim.name = "adamw"
    c.optim.learning_rate = 1e-3
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 percent"

    c.guard = ConfigDict(dict(skip=5, rollback=True))

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="val", every="10 percent"))
    c.evaluators.test = ConfigDict(dict(split="test", every="100 percent"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "10 percent"
    c.checkpoint.keep_best = "val/loss"
    c.checkpoint.use = "best"
    return c
