"""Slow R50 on Kinetics-400, trained from scratch on clips of 8 frames with a stride of 8.

    python -m imgcls.main --workdir=/runs/slow \
      --config=kinetics_slow_r50:data=folder:/data/kinetics400

The slow pathway of Feichtenhofer et al. 2018, arXiv:1812.03982, by the recipe of PySlowFast
(`configs/Kinetics/SLOW_8x8_R50.yaml`): 196 epochs of SGD at 0.1, 34 of them warm-up, on 8 GPUs with
8 clips each. Crops are as large a part of a video of 4:3 as 224 pixels are where the shorter side
is 256 to 320. Left out: statistics of BatchNorm over 200 batches before an evaluation.

Target: 74.6 % top-1 on the validation videos (pytorchvideo's model zoo). Views: 10 clips x 3
crops of 256 pixels, averaged, there and here.
"""

from ml_collections import ConfigDict

from imgcls.train import clip_views


def get_config(data: str = "folder:kinetics400", views: str = "10x3") -> ConfigDict:
    """Returns the config.

    Args:
      data: source of the videos, with the splits train and val.
      views: clips x crops of each video in evaluation, 1 or 3 crops; published: 10x3.
    """
    c = ConfigDict()
    c.total = "196 epochs"
    c.batch_size = 64

    c.model = ConfigDict(dict(name="slow_r50", dtype="bfloat16", virtual_batch_size=8))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax"))

    c.data = ConfigDict()
    c.data.source = data
    c.data.train_split = "train"
    crop = "random_resized_crop(224, scale=(0.37, 0.57), ratio=(1.0, 1.0))"
    c.data.train_transform = f"sample_frames(8, stride=8, size=320)|{crop}|flip"
    sample = "sample_frames(8, stride=8, {clips}size=256)"
    c.data.eval_transform = clip_views.eval_transform(sample, 256, views)
    c.data.mean = (0.45, 0.45, 0.45)
    c.data.std = (0.225, 0.225, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.1
    c.optim.momentum = 0.9
    c.optim.nesterov = True
    c.optim.weight_decay = 1e-4

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "34 epochs"

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="val", every="10 epochs"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
