"""Inpainting with ResNet-18 on CIFAR-10, from class folders or a zip of them.

    --config=configs/cifar10_inpaint.py:data=/data/cifar10.zip

A context encoder (Pathak et al. 2016, arXiv:1604.07379) with its reconstruction loss but
without the adversarial one; a square of a quarter of the image is missing, at a random place. The
schedule is our own. Target: none, as there is no published number for this on CIFAR-10.
"""

from ml_collections import ConfigDict


def get_config(data: str = "cifar10", epochs: int = 200) -> ConfigDict:
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 512

    c.model = ConfigDict(dict(name="resnet18", stem="cifar", virtual_batch_size=128))
    c.objective = ConfigDict(dict(name="inpaint", region="random", fraction=0.5))

    c.data = ConfigDict()
    c.data.source = f"folder:{data}"
    c.data.views = "one"
    c.data.train_transform = "pad_crop(32, padding=4)|flip"
    c.data.eval_transform = "resize((32, 32))"
    c.data.mean = (0.4914, 0.4822, 0.4465)
    c.data.std = (0.2470, 0.2435, 0.2616)

    c.optim = ConfigDict()
    c.optim.name = "adamw"
    c.optim.learning_rate = 1e-3
    c.optim.weight_decay = 0.05

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 epochs"

    c.evaluators = ConfigDict()
    c.evaluators.knn = ConfigDict(dict(type="knn", split="test", every="10 epochs"))
    c.evaluators.knn.train_split = "train"
    c.evaluators.linear = ConfigDict(dict(type="linear_probe", split="test", every="100 percent"))
    c.evaluators.linear.train_split = "train"
    c.evaluators.pictures = ConfigDict(dict(type="reconstructions", split="test"))
    c.evaluators.pictures.every = "10 epochs"

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "5 epochs"
    c.checkpoint.keep_best = "knn/accuracy"
    return c
