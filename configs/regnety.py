"""RegNetY on ImageNet, at 3.2 GFLOPs or others: `--config=configs/regnety.py:flops=8gf`.

Radosavovic et al. 2020, arXiv:2003.13678, section 5: 100 epochs, and no regularization but weight
decay. Target at 3.2 GFLOPs: 79.0 % top-1 (theirs; torchvision, IMAGENET1K_V1: 78.95 %). The batch
of 512 is that of the middle sizes; torchvision takes 1,024 below 3.2 GFLOPs and 256 for the
largest, at learning rates in proportion.
"""

from ml_collections import ConfigDict


def get_config(flops: str = "3_2gf") -> ConfigDict:
    c = ConfigDict()
    c.total = "100 epochs"
    c.batch_size = 512

    c.model = ConfigDict(dict(name=f"regnety_{flops}", dtype="bfloat16", virtual_batch_size=32))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax"))

    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    # Left out, as in torchvision: PCA lighting noise, for which there is no transform.
    c.data.train_transform = "random_resized_crop(224)|flip"
    c.data.eval_transform = "eval_crop(224, crop_fraction=0.875)"
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.2
    c.optim.base_batch = 256
    c.optim.momentum = 0.9
    c.optim.nesterov = True
    c.optim.weight_decay = 5e-5
    c.optim.decay_exclude = ""  # biases and norms decay too

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 epochs"

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="validation", every="5 epochs"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
