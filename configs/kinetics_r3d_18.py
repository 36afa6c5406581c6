"""R3D-18 on Kinetics-400, trained from scratch on clips of 16 frames.

    python -m imgcls.main --workdir=/runs/r3d \
      --config=kinetics_r3d_18:data=folder:/data/kinetics400

The network of Tran et al. 2017, arXiv:1711.11248, by the recipe of torchvision
(`torchvision/models/video/README.md`): 15 frames per second at 112 pixels, SGD at 0.64 on 64 GPUs
with 24 clips each, 10 of 45 epochs of warm-up. Its epoch has five clips of each video; here it has
one, so all lengths are five times longer. `model=mc3_18` and `model=r2plus1d_18` are the other
networks of that recipe.

Target: 63.2 % top-1 on the validation videos, 64.0 % of MC3-18 and 67.5 % of R(2+1)D-18
(torchvision, KINETICS400_V1). Views: 5 clips x 1 central crop, averaged, there and here.
"""

from ml_collections import ConfigDict

from imgcls.train import clip_views

MODELS = ("r3d_18", "mc3_18", "r2plus1d_18")


def get_config(
    data: str = "folder:kinetics400", model: str = "r3d_18", views: str = "5x1"
) -> ConfigDict:
    """Returns the config.

    Args:
      data: source of the videos, with the splits train and val.
      model: r3d_18, mc3_18 or r2plus1d_18.
      views: clips x crops of each video in evaluation, 1 or 3 crops; published: 5x1.
    """
    if model not in MODELS:
        raise ValueError(f"model={model!r}: must be one of {', '.join(MODELS)}")
    c = ConfigDict()
    c.total = "225 epochs"
    c.batch_size = 1536

    c.model = ConfigDict(dict(name=model, dtype="bfloat16", zero_init_residual=False))
    c.model.virtual_batch_size = 24
    c.objective = ConfigDict(dict(name="supervised", loss="softmax"))

    frames = "sample_frames(16, fps=15, {clips}size=(128, 171))"
    c.data = ConfigDict()
    c.data.source = data
    c.data.train_split = "train"
    c.data.train_transform = f"{frames.format(clips='')}|pad_crop(112, padding=0)|flip"
    c.data.eval_transform = clip_views.eval_transform(frames, 112, views)
    c.data.mean = (0.43216, 0.394666, 0.37645)
    c.data.std = (0.22803, 0.22145, 0.216989)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.01
    c.optim.base_batch = 24
    c.optim.momentum = 0.9
    c.optim.weight_decay = 1e-4

    c.schedule = ConfigDict()
    c.schedule.name = "step"
    c.schedule.warmup = "50 epochs"
    c.schedule.boundaries = ("100 epochs", "150 epochs", "200 epochs")
    c.schedule.factor = 0.1

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="val", every="25 epochs"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "5 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
