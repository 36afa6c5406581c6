"""Pictures of your own, one or many labels each: class folders, or a labeling tool's file.

    python -m imgcls.main --config=configs/own.py:data=folder:/my/pictures --workdir=/runs/mine

Trains a ResNet from scratch in about five minutes, so that a first result needs no download: the
size comes from the images, the width, the length and the augmentation from their number and the
speed of the machine (imgcls/train/auto.py). With `size` and `epochs` nothing is chosen.
`configs/finetune.py` starts from pretrained weights and gets better results. Whether an example has
one label or many is read from the data. There is no published number to reach.
"""

from ml_collections import ConfigDict


def get_config(
    data: str,
    size: int | None = None,
    epochs: int | None = None,
    minutes: float = 5.0,
    model: str = "resnet18",
    width: int | None = None,
) -> ConfigDict:
    """The recipe.

    Args:
      data: source of the pictures, such as "folder:/my/pictures" or "coco:/my/labels.json".
      size: of the pictures in pixels; None: chosen.
      epochs: length; None: chosen.
      minutes: time of the run for which the rest is chosen.
      model: a name of `python -m imgcls.models`.
      width: channels of a ResNet's first stage; None: chosen, or 32 with `size` and `epochs`.
    """
    chosen = size is None or epochs is None
    c = ConfigDict()
    c.total = "auto" if epochs is None else f"{epochs} epochs"
    c.batch_size = 64

    c.model = ConfigDict(dict(name=model))
    if model.startswith("resnet") and (width or not chosen):
        c.model.width = width or 32
    c.objective = ConfigDict(dict(name="supervised", loss="auto"))
    if chosen:
        c.auto = ConfigDict(dict(minutes=float(minutes), size=size))

    c.data = ConfigDict()
    c.data.source = data
    c.data.train_split = "train"
    c.data.missing_splits = "replace"
    if chosen:
        c.data.train_transform = c.data.eval_transform = c.data.batch_transform = "auto"
        c.data.sampling = "auto"
    else:
        c.data.train_transform = f"random_resized_crop({size}, scale=(0.5, 1.0))|flip"
        c.data.eval_transform = f"resize(({size}, {size}))"
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "adamw"
    c.optim.learning_rate = 2e-3
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 percent"

    c.guard = ConfigDict(dict(skip=5, rollback=True))

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="val", every="20 percent"))
    c.evaluators.test = ConfigDict(dict(split="test", every="100 percent"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "20 percent"
    c.checkpoint.keep_best = "val/loss"
    c.checkpoint.use = "best"
    return c
