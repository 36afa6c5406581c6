"""SimCLR with ResNet-50 on ImageNet.

Chen et al. 2020, arXiv:2002.05709, section 2.3 ("Default setting") and appendix A. Target: 69.3 %
top-1 by a linear classifier on frozen features after 1,000 epochs (their table 6); 64.6 % after 100
(table B.1): `--config=configs/imagenet_simclr_resnet50.py:epochs=100`. The probe is such a
classifier, trained alongside, which performs about as well (appendix B.6).
"""

from ml_collections import ConfigDict


def get_config(epochs: int = 1000) -> ConfigDict:
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 4096

    # BatchNorm over the full batch: statistics of a part of it would tell the other view of an
    # image from the negatives (section 2.2). The last BatchNorm of a block starts at zero.
    c.model = ConfigDict(dict(name="resnet50", dtype="bfloat16"))
    c.objective = ConfigDict(dict(name="simclr", temperature=0.1, hidden=2048, features=128))
    c.objective.probe = True

    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    c.data.views = "two"
    crop = "random_resized_crop(224, scale=(0.08, 1.0), interpolation='bicubic')|flip"
    color = "color_jitter(0.8, 0.8, 0.8, 0.2, p=0.8)|grayscale(0.2)"
    c.data.train_transform = f"{crop}|{color}|gaussian_blur(0.5, sigma=(0.1, 2.0))"
    c.data.eval_transform = "eval_crop(224, crop_fraction=0.875)"
    # The authors' code leaves pixels in 0..1.
    c.data.mean = (0.0, 0.0, 0.0)
    c.data.std = (1.0, 1.0, 1.0)

    c.optim = ConfigDict()
    c.optim.name = "lars"
    c.optim.learning_rate = 0.3
    c.optim.base_batch = 256
    c.optim.momentum = 0.9
    c.optim.nesterov = False
    c.optim.trust_coefficient = 0.001
    # As in the paper; the authors' code, with a projector of three layers, later used 1e-4.
    c.optim.weight_decay = 1e-6
    # These have no trust ratio either; the probe is as in the authors' code.
    c.optim.decay_exclude = "bias|scale|probe"

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "10 epochs"

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="validation", every="10 epochs"))  # the probe's
    # A tenth of the training images, so that their features fit anywhere (1 GB).
    c.evaluators.knn = ConfigDict(dict(type="knn", split="validation", every="10 epochs"))
    c.evaluators.knn.train_split = "train[:10%]"

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "knn/accuracy"
    return c
