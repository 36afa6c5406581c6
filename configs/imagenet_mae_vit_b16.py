"""MAE with ViT-B/16 on ImageNet.

He et al. 2021, arXiv:2111.06377, table 8, with normalized pixels as the target (table 1d). Target:
83.6 % top-1 after fine-tuning and 68.0 % by a linear classifier on frozen features, both after
1,600 epochs (their tables 3 and 12): `--config=configs/imagenet_mae_vit_b16.py:epochs=1600`. For
800 the paper has no number of this network; open-mmlab/mmselfsup reaches 83.3 % and 65.1 %.
"""

from ml_collections import ConfigDict


def get_config(epochs: int = 800) -> ConfigDict:
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 4096

    c.model = ConfigDict(dict(name="vit_b16", dtype="bfloat16", pool="cls", pos_embed="sincos2d"))
    c.objective = ConfigDict(dict(name="mae", mask_ratio=0.75, normalize=True))
    c.objective.decoder_width = 512
    c.objective.decoder_depth = 8
    c.objective.decoder_heads = 16
    # Shows how the features grow. It learns from the visible patches alone, without the paper's
    # BatchNorm and schedule, so that it stays below their linear classifier.
    c.objective.probe = True

    c.data = ConfigDict()
    c.data.source = "tfds:imagenet2012"
    c.data.train_split = "train"
    c.data.views = "one"
    crop = "random_resized_crop(224, scale=(0.2, 1.0), interpolation='bicubic')"
    c.data.train_transform = f"{crop}|flip"
    c.data.eval_transform = "eval_crop(224, crop_fraction=0.875)"
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "adamw"
    c.optim.learning_rate = 1.5e-4
    c.optim.base_batch = 256
    c.optim.b1 = 0.9
    c.optim.b2 = 0.95
    c.optim.weight_decay = 0.05
    c.optim.decay_exclude = "bias|scale"  # the tokens decay, as in the authors' code

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "40 epochs"

    # No neighbors: features of MAE need training (lightly-ai/lightly: 11.2 % by
    # neighbors, 46.0 % by a linear classifier, after 100 epochs).
    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="validation", every="10 epochs"))  # the probe's
    c.evaluators.pictures = ConfigDict(dict(type="reconstructions", split="validation"))
    c.evaluators.pictures.every = "20 epochs"

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
