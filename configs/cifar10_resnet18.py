"""ResNet-18 on CIFAR-10 from class folders or a zip of them.

    python -m imgcls.main --config=configs/cifar10_resnet18.py:data=/data/cifar10.zip --workdir=...

The network of kuangliu/pytorch-cifar (3x3 stem, no max-pool) with its 200-epoch recipe cut to 30
epochs. Target: 94 % on the 10,000 test images.
"""

from ml_collections import ConfigDict


def get_config(data: str = "cifar10", epochs: int = 30) -> ConfigDict:
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 512

    c.model = ConfigDict(dict(name="resnet18", stem="cifar", virtual_batch_size=128))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax", label_smoothing=0.1))

    c.data = ConfigDict()
    c.data.source = f"folder:{data}"
    c.data.train_transform = "pad_crop(32, padding=4)|flip"
    c.data.eval_transform = "resize((32, 32))"
    c.data.mean = (0.4914, 0.4822, 0.4465)
    c.data.std = (0.2470, 0.2435, 0.2616)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.4
    c.optim.momentum = 0.9
    c.optim.nesterov = True
    c.optim.weight_decay = 5e-4

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "20 percent"

    c.evaluators = ConfigDict()
    c.evaluators.test = ConfigDict(dict(split="test", every="5 epochs"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "5 epochs"
    c.checkpoint.keep_best = "test/accuracy"
    return c
