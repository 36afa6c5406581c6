"""Pictures of your own, one or many labels each: class folders, or a labeling tool's file.

    python -m imgcls.main --config=configs/own.py:data=folder:/my/pictures --workdir=/runs/mine

Trains a ResNet from scratch, so that a first result needs no download; `configs/finetune.py`
starts from pretrained weights and gets better results. Whether an example has one label or many is
read from the data. There is no published number to reach.
"""

from ml_collections import ConfigDict


def get_config(
    data: str, size: int = 64, epochs: int = 20, model: str = "resnet18", width: int = 32
) -> ConfigDict:
    """The recipe.

    Args:
      data: source of the pictures, such as "folder:/my/pictures" or "coco:/my/labels.json".
      size: of the pictures in pixels.
      epochs: length.
      model: a name of `python -m imgcls.models`.
      width: channels of a ResNet's first stage.
    """
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 64

    options = dict(width=width) if model.startswith("resnet") else {}
    c.model = ConfigDict(dict(name=model, **options))
    c.objective = ConfigDict(dict(name="supervised", loss="auto"))

    c.data = ConfigDict()
    c.data.source = data
    c.data.train_split = "train"
    c.data.missing_splits = "replace"
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
