"""DeiT-S/16 on ImageNet, without distillation.

Touvron et al. 2020, arXiv:2012.12877, table 9. Target: 79.8 % top-1 after 300 epochs. Left out:
repeated augmentation, since here an epoch shows every image once. RandAugment is that of its own
paper; DeiT's, of timm, also varies the magnitude (standard deviation 0.5).
"""

from ml_collections import ConfigDict


def get_config(epochs: int = 300) -> ConfigDict:
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 1024

    c.model = ConfigDict(dict(name="vit_s16", dtype="bfloat16", drop_path=0.1))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax", label_smoothing=0.1))

    crop = "random_resized_crop(224, interpolation='bicubic')"
    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    c.data.train_transform = f"{crop}|flip|rand_augment(2, 9)"
    c.data.eval_transform = "eval_crop(224, crop_fraction=0.875)"
    c.data.batch_transform = "random_erasing(0.25)|mixup_or_cutmix(0.8, 1.0)"
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "adamw"
    c.optim.learning_rate = 5e-4
    c.optim.base_batch = 512
    c.optim.weight_decay = 0.05

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 epochs"

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="validation", every="5 epochs"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
