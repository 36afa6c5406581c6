"""ResNeSt-50 on ImageNet.

Zhang et al. 2020, arXiv:2004.08955, section 4.2. Target: 81.13 % top-1 (their table 3). Left out,
as they are not implemented: AutoAugment, which the paper uses, and from the authors' code
(zhanghang1989/ResNeSt, scripts/gluon) DropBlock and PCA lighting noise.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.total = "270 epochs"
    c.batch_size = 8192

    # The last BatchNorm of a block starts at zero. Dropout is for the larger networks only.
    c.model = ConfigDict(dict(name="resnest50d", dtype="bfloat16", virtual_batch_size=32))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax", label_smoothing=0.1))

    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    # The jitter is the authors' code's, which has AutoAugment before the crop.
    c.data.train_transform = "random_resized_crop(224)|flip|color_jitter(0.4, 0.4, 0.4)"
    c.data.eval_transform = "eval_crop(224, crop_fraction=0.875)"
    c.data.batch_transform = "mixup(0.2)"
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
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 epochs"

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="validation", every="5 epochs"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
