"""Semi-hard triplets with ResNet-18 on CIFAR-10, from class folders or a zip of them.

    --config=configs/cifar10_triplet.py:data=/data/cifar10.zip

The loss, its margin and its mining are FaceNet's (Schroff et al. 2015, arXiv:1503.03832, sections
3.1 to 3.3), with classes instead of persons; the schedule is our own. Target: none, as
there is no published number for this network.
"""

from ml_collections import ConfigDict


def get_config(data: str = "cifar10", epochs: int = 200) -> ConfigDict:
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 512  # about 50 images of each class to find triplets among

    c.model = ConfigDict(dict(name="resnet18", stem="cifar", virtual_batch_size=128))
    c.objective = ConfigDict(dict(name="triplet", mining="semi-hard", margin=0.2, features=128))

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
    c.evaluators.knn.layer = "projector"  # what the loss compares
    c.evaluators.linear = ConfigDict(dict(type="linear_probe", split="test", every="100 percent"))
    c.evaluators.linear.train_split = "train"
    c.evaluators.map = ConfigDict(dict(type="embedding_map", split="test", every="50 epochs"))
    c.evaluators.map.method = "pca"
    c.evaluators.map.layer = "projector"

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "5 epochs"
    c.checkpoint.keep_best = "knn/accuracy"
    return c
