"""ResNet-50 on ImageNet in 90 epochs: the classic recipe.

Goyal et al. 2017, arXiv:1706.02677, section 5.1, with a batch of 1,024 and Nesterov momentum.
Target: 76.3 % top-1 on the 50,000 validation images (their table 1: 23.6 % error at 256 images;
fb.resnet.torch and torchvision: 76.1 %).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.total = "90 epochs"
    c.batch_size = 1024

    # Statistics over 32 images, as on each of the paper's GPUs; the last BatchNorm of a block
    # starts at zero.
    c.model = ConfigDict(dict(name="resnet50", dtype="bfloat16", virtual_batch_size=32))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax"))

    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    c.data.train_transform = "random_resized_crop(224, scale=(0.08, 1.0))|flip"
    c.data.eval_transform = "eval_crop(224, crop_fraction=0.875)"
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.1
    c.optim.base_batch = 256
    c.optim.momentum = 0.9
    c.optim.nesterov = True
    c.optim.weight_decay = 1e-4

    c.schedule = ConfigDict()
    c.schedule.name = "step"
    c.schedule.warmup = "5 epochs"
    c.schedule.boundaries = ("30 epochs", "60 epochs", "80 epochs")
    c.schedule.factor = 0.1

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="validation", every="5 epochs"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
