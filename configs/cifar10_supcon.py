"""Supervised contrastive learning with ResNet-18 on CIFAR-10, from class folders or a zip of them.

    --config=configs/cifar10_supcon.py:data=/data/cifar10.zip

Khosla et al. 2020, arXiv:2004.11362, by the settings of HobbitLong/SupContrast for CIFAR-10, at
half of its batch and a fifth of its 1,000 epochs. Left out: the factor of temperature / 0.07 on its
loss. Target: no published number for 200 epochs of ResNet-18. After 1,000 a linear classifier
reaches 96.0 % with ResNet-50 (their table 2), and 93.82 % with ResNet-18 and other settings
(vturrisi/solo-learn).
"""

from ml_collections import ConfigDict


def get_config(data: str = "cifar10", epochs: int = 200) -> ConfigDict:
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 512

    c.model = ConfigDict(dict(name="resnet18", stem="cifar", virtual_batch_size=128))
    c.objective = ConfigDict(dict(name="supcon", temperature=0.1, hidden=512, features=128))

    c.data = ConfigDict()
    c.data.source = f"folder:{data}"
    c.data.views = "two"
    color = "color_jitter(0.4, 0.4, 0.4, 0.1, p=0.8)|grayscale(0.2)"
    c.data.train_transform = f"random_resized_crop(32, scale=(0.2, 1.0))|flip|{color}"
    c.data.eval_transform = "resize((32, 32))"
    c.data.mean = (0.4914, 0.4822, 0.4465)
    c.data.std = (0.2470, 0.2435, 0.2616)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.125
    c.optim.base_batch = 256
    c.optim.momentum = 0.9
    c.optim.nesterov = False
    c.optim.weight_decay = 1e-4
    c.optim.decay_exclude = ""  # biases and norms decay too

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "10 epochs"
    c.schedule.final = 1e-3

    c.evaluators = ConfigDict()
    c.evaluators.knn = ConfigDict(dict(type="knn", split="test", every="10 epochs"))
    c.evaluators.knn.train_split = "train"
    c.evaluators.knn.k = 200
    c.evaluators.knn.temperature = 0.1
    c.evaluators.linear = ConfigDict(dict(type="linear_probe", split="test", every="100 percent"))
    c.evaluators.linear.train_split = "train"
    c.evaluators.map = ConfigDict(dict(type="embedding_map", split="test", every="50 epochs"))
    c.evaluators.map.method = "pca"

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "5 epochs"
    c.checkpoint.keep_best = "knn/accuracy"
    return c
