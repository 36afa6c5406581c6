"""Pictures of your own, one or many labels each: class folders, or a labeling tool's file.

    python -m imgcls.main --config=configs/own.py:data=folder:/my/pictures --workdir=/runs/mine

Trains a small network in about five minutes: the size and the model come from the images, the
width, the length and the augmentation from their number and the speed of the machine
(imgcls/train/auto.py). Images of more than 48 pixels start from weights of ImageNet if they can be
downloaded; otherwise, and for small images, the network is trained from scratch. With `size` and
`epochs` nothing is chosen. `configs/finetune.py` is for other models and longer runs. Whether an
example has one label or many is read from the data. There is no published number to reach.
"""

from ml_collections import ConfigDict

from imgcls.train import choices, preprocessing


def get_config(
    data: str,
    size: int | None = None,
    epochs: int | None = None,
    minutes: float = 5.0,
    model: str | None = None,
    width: int | None = None,
    weights: str = "auto",
) -> ConfigDict:
    """The recipe.

    Args:
      data: source of the pictures, such as "folder:/my/pictures" or "coco:/my/labels.json".
      size: of the pictures in pixels; None: chosen.
      epochs: length; None: chosen.
      minutes: time of the run for which the rest is chosen.
      model: a name of `python -m imgcls.models`; None: chosen, or a ResNet-18 with `width`, or with
        `size` and `epochs`.
      width: channels of a ResNet's first stage; None: chosen, or 32 with `size` and `epochs`.
      weights: pretrained weights of `model`, see docs/weights.md; "auto": those of ImageNet, if the
        images are large enough and they can be downloaded; "": none.
    """
    chosen = size is None or epochs is None
    given = weights not in ("auto", "")
    model = model or ("auto" if chosen and width is None and not given else "resnet18")
    c = ConfigDict()
    c.total = "auto" if epochs is None else f"{epochs} epochs"
    c.batch_size = 64

    c.model = ConfigDict(dict(name=model))
    if model.startswith("resnet") and not given and (width or not chosen):
        c.model.width = width or 32
    c.init_from = weights if given or (chosen and weights) else None
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
    if given and (recorded := preprocessing.recorded_preprocessing(weights)):
        c.data.mean, c.data.std = recorded.mean, recorded.std

    c.optim = ConfigDict()
    if model == "auto" or model.startswith(("airbench", "resnet")):
        # It reaches a higher accuracy than AdamW in the same time.
        c.optim.name = "muon"
        c.optim.learning_rate = 0.05
        c.optim.momentum = 0.85
        c.optim.nesterov = True
        c.optim.weight_decay = 5e-4
        c.optim.decay_exclude = "bias|scale|whiten"
        muon = dict(momentum=0.6, steps=3, fixed_norm=True, exclude="head|whiten", rest="sgd")
        c.optim.muon = ConfigDict(muon)
    else:
        c.optim.name = "adamw"
        c.optim.learning_rate = 2e-3
        c.optim.weight_decay = 0.05
        c.optim.clip_norm = 1.0
    if given:
        c.optim.multipliers = choices.BACKBONE

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
