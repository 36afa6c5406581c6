"""Inception V1 (GoogLeNet) with BatchNorm on ImageNet: torchvision's reference recipe.

The network and its auxiliary loss are those of Szegedy et al. 2014, arXiv:1409.4842, section 5. The
paper's section 6 names neither a learning rate nor a length (asynchronous SGD, the rate 4 % lower
every 8 epochs), so the rest is the default of references/classification of pytorch/vision, for
networks with BatchNorm. Target: 69.78 % top-1 (torchvision, IMAGENET1K_V1, whose weights were
trained elsewhere and not by this recipe).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.total = "90 epochs"
    c.batch_size = 256

    c.model = ConfigDict(dict(name="inception_v1", dtype="bfloat16", virtual_batch_size=32))
    c.model.aux = True
    c.model.drop_rate = 0.4
    c.objective = ConfigDict(dict(name="supervised", loss="softmax", aux_weight=0.3))

    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    # The crop is the paper's own: 8 to 100 % of the area, sides from 3:4 to 4:3.
    c.data.train_transform = (
        "random_resized_crop(224, scale=(0.08, 1.0), ratio=(0.75, 1.3333))|flip"
    )
    c.data.eval_transform = "eval_crop(224, interpolation='bilinear')"
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.1
    c.optim.base_batch = 256
    c.optim.momentum = 0.9
    c.optim.nesterov = False
    c.optim.weight_decay = 1e-4
    c.optim.decay_exclude = ""  # biases and norms decay too

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
