"""AlexNet on ImageNet: torchvision's reference recipe.

The network of Krizhevsky 2014, arXiv:1404.5997, trained as in references/classification of
pytorch/vision: 90 epochs at the learning rate of 0.01 that networks without BatchNorm need. It
takes the place of the paper's recipe (weight decay 5e-4, crops of 256-pixel images, colors shifted
along their principal components). Target: 56.52 % top-1 (torchvision, IMAGENET1K_V1).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.total = "90 epochs"
    c.batch_size = 256

    c.model = ConfigDict(dict(name="alexnet", dtype="bfloat16"))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax"))

    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    c.data.train_transform = "random_resized_crop(224)|flip"
    c.data.eval_transform = "eval_crop(224, interpolation='bilinear')"
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.01
    c.optim.base_batch = 256
    c.optim.momentum = 0.9
    c.optim.nesterov = False
    c.optim.weight_decay = 1e-4
    c.optim.decay_exclude = ""  # biases decay too

    c.schedule = ConfigDict()
    c.schedule.name = "step"
    c.schedule.boundaries = ("30 epochs", "60 epochs")
    c.schedule.factor = 0.1

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="validation", every="5 epochs"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
