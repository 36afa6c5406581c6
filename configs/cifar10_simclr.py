"""SimCLR with ResNet-18 on CIFAR-10, from class folders or a zip of them.

    --config=configs/cifar10_simclr.py:data=/data/cifar10.zip

Chen et al. 2020, arXiv:2002.05709, appendix B.9, for the augmentations and the temperature; the
optimizer is that of lightly-ai/lightly's CIFAR-10 benchmark, which trains as long and evaluates by
k nearest neighbors. Target: 84.8 % by 200 neighbors on the 10,000 test images (theirs, at a batch
of 512). The authors' code ends at about 91 % by a linear classifier after 1,000 epochs with LARS.
"""

from ml_collections import ConfigDict


def get_config(data: str = "cifar10", epochs: int = 200) -> ConfigDict:
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 512

    # BatchNorm over the full batch: statistics of a part of it would tell the other view of an
    # image from the negatives (section 2.2).
    c.model = ConfigDict(dict(name="resnet18", stem="cifar"))
    c.objective = ConfigDict(dict(name="simclr", temperature=0.5, hidden=512, features=128))

    c.data = ConfigDict()
    c.data.source = f"folder:{data}"
    c.data.views = "two"
    # Color distortion of strength 0.5, and no blur.
    color = "color_jitter(0.4, 0.4, 0.4, 0.1, p=0.8)|grayscale(0.2)"
    c.data.train_transform = f"random_resized_crop(32, scale=(0.08, 1.0))|flip|{color}"
    c.data.eval_transform = "resize((32, 32))"
    c.data.mean = (0.4914, 0.4822, 0.4465)
    c.data.std = (0.2470, 0.2435, 0.2616)

    # SGD, as in lightly's; LARS is for the large batches of ImageNet.
    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.12
    c.optim.base_batch = 256
    c.optim.momentum = 0.9
    c.optim.nesterov = False
    c.optim.weight_decay = 5e-4
    c.optim.decay_exclude = ""  # biases and norms decay too

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"

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
