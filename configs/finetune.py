"""Fine-tuning on pictures of your own, from weights trained by others or by you.

    --config=configs/finetune.py:model=vit_b16,init_from=timm:vit_base_patch16_224.augreg_in1k,data=folder:/my/pictures

The recipe is the usual one for transfer: a short cosine schedule without strong augmentation
(Kolesnikov et al. 2019, arXiv:1912.11370, section 3.3), here with AdamW and a backbone that learns
ten times slower than the new head. Target: your own; there is no published number to reach.
"""

from ml_collections import ConfigDict

from imgcls.train import preprocessing


def get_config(
    init_from: str,
    data: str,
    model: str = "vit_b16",
    size: int = 224,
    epochs: int = 20,
    train: str = "all",
    normalize: str = "auto",
) -> ConfigDict:
    """The recipe.

    Args:
      init_from: see imgcls/weights.
      data: source of the pictures, such as "folder:/my/pictures".
      model: of these weights.
      size: of the pictures in pixels.
      epochs: length.
      train: "all", with the backbone at a tenth of the head's rate, or "head" alone, with the
        backbone frozen.
      normalize: "imagenet" or "half" (to -1..1), as the weights were trained with; "auto" reads
        mean, std, crop and interpolation of evaluation from the weights' own config.json (beside
        the file or on the hub) or run, and without one goes by names: "half" for vit_* (augreg)
        and Inception V1 and V3 (torchvision), "imagenet" for DeiT and all else.
    """
    if train not in ("all", "head"):
        raise ValueError(f"train={train!r}: write 'all' or 'head'")
    recorded = preprocessing.recorded_preprocessing(init_from) if normalize == "auto" else None

    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 64

    c.init_from = init_from
    c.model = ConfigDict(dict(name=model, dtype="float32"))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax", frozen=train == "head"))

    c.data = ConfigDict()
    c.data.source = data
    c.data.train_split = "train"
    c.data.missing_splits = "replace"
    c.data.train_transform = f"random_resized_crop({size}, scale=(0.35, 1.0))|flip"
    if recorded is not None:
        c.data.mean, c.data.std = recorded.mean, recorded.std
        c.data.eval_transform = recorded.eval_transform(size)
    else:
        known = {"imagenet": preprocessing.IMAGENET, "half": preprocessing.HALF}
        known["auto"] = preprocessing.normalization_by_name(init_from, model)
        c.data.mean, c.data.std = known[normalize]
        c.data.eval_transform = f"eval_crop({size}, crop_fraction=0.9)"

    c.optim = ConfigDict()
    c.optim.name = "adamw"
    c.optim.learning_rate = 1e-3
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0
    # Everything but the classifiers.
    backbone = r"^(?!head|aux\d/fc2|AuxLogits/fc)"
    c.optim.multipliers = ((backbone, 0.1 if train == "all" else 0.0),)

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 percent"

    c.guard = ConfigDict(dict(skip=5, rollback=True))

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="val", every="1 epochs"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    c.checkpoint.use = "best"
    return c
