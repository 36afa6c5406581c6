"""SE-ResNet-50 on ImageNet.

Hu et al. 2017, arXiv:1709.01507, section 5.1. Target: 76.71 % top-1 (their table 2: 23.29 % error).
The weight decay is ResNet's. The weights that the authors published later are better: they were
trained for longer, with rotations and pixel jitter, which are not in the paper.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.total = "100 epochs"
    c.batch_size = 1024

    c.model = ConfigDict(dict(name="seresnet50", dtype="bfloat16", virtual_batch_size=32))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax"))

    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    c.data.train_transform = "random_resized_crop(224)|flip"
    c.data.eval_transform = "eval_crop(224, crop_fraction=0.875)"
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.6
    c.optim.momentum = 0.9
    c.optim.nesterov = False
    c.optim.weight_decay = 1e-4

    c.schedule = ConfigDict()
    c.schedule.name = "step"
    c.schedule.boundaries = ("30 epochs", "60 epochs", "90 epochs")
    c.schedule.factor = 0.1

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="validation", every="5 epochs"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
