"""BYOL with ResNet-50 on ImageNet, for 1,000, 300 or 100 epochs.

Grill et al. 2020, arXiv:2006.07733, section 3.3 and appendix B; for 300 epochs section 5, for 100
the presets of google-deepmind/deepmind-research. Target: 74.3 % top-1 by a linear classifier on
frozen features after 1,000 epochs (their table 1), 72.5 % after 300 (table 14a):
`--config=configs/imagenet_byol_resnet50.py:epochs=300`. The probe is such a classifier, trained
alongside, as in the authors' code.
"""

from ml_collections import ConfigDict


def get_config(epochs: int = 1000) -> ConfigDict:
    presets = {1000: (0.2, 1.5e-6, 0.996), 300: (0.3, 1e-6, 0.99), 100: (0.45, 1e-6, 0.99)}
    if epochs not in presets:
        raise ValueError(f"epochs={epochs}: write 1000, 300 or 100")
    learning_rate, weight_decay, tau = presets[epochs]

    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 4096

    # BatchNorm over the full batch of each view. Its scale starts at one in all layers.
    c.model = ConfigDict(dict(name="resnet50", dtype="bfloat16", zero_init_residual=False))
    c.objective = ConfigDict(dict(name="byol", tau=tau, hidden=4096, features=256, probe=True))

    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    c.data.views = "two"
    # Table 6. Brightness is multiplied here, and shifted by as much there.
    crop = "random_resized_crop(224, scale=(0.08, 1.0), interpolation='bicubic')|flip"
    color = "color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)"
    c.data.train_transform = f"{crop}|{color}|gaussian_blur(1.0, sigma=(0.1, 2.0))"
    c.data.train_transform2 = f"{crop}|{color}|gaussian_blur(0.1, sigma=(0.1, 2.0))|solarize(0.2)"
    c.data.eval_transform = "eval_crop(224, crop_fraction=0.875)"
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "lars"
    c.optim.learning_rate = learning_rate
    c.optim.base_batch = 256
    c.optim.momentum = 0.9
    c.optim.nesterov = False
    c.optim.trust_coefficient = 0.001
    c.optim.weight_decay = weight_decay
    c.optim.decay_exclude = "bias|scale"  # these have no trust ratio either

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
