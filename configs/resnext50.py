"""ResNeXt-50 (32x4d) on ImageNet.

Xie et al. 2016, arXiv:1611.05431, section 4, which follows fb.resnet.torch: the learning rate falls
three times. Over 100 epochs, as in torchvision's reference recipe, which is otherwise the same but
for Nesterov's momentum. Target: 77.8 % top-1 (their table 3: 22.2 % error; torchvision,
IMAGENET1K_V1: 77.62 %).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.total = "100 epochs"
    c.batch_size = 256

    c.model = ConfigDict(dict(name="resnext50_32x4d", dtype="bfloat16", virtual_batch_size=32))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax"))

    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    # Left out, as in torchvision: fb.resnet.torch's color jitter and PCA lighting noise. There is
    # no transform for the latter.
    c.data.train_transform = "random_resized_crop(224)|flip"
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
    c.optim.decay_exclude = ""  # biases and norms decay too

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
