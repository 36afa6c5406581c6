"""Videos of your own, one or many labels each: class folders, or a labeling tool's file.

    python -m imgcls.main --config=configs/own_videos.py:data=folder:/my/videos --workdir=...

Trains a narrow ResNet on frames from all parts of each video, and averages over them, for a first
result on a CPU. Files are MP4, MOV, MKV, WebM, AVI, MPEG and GIF, or folders of frames
(docs/video.md). Whether an example has one label or many is read from the data. There is no
published number to reach.

The mean over frames knows no order: `model='cnn_lstm'` does. Nothing is flipped: add `flip` to
`data.train_transform` where left and right mean the same.
"""

from ml_collections import ConfigDict

from imgcls.train import clip_views


def get_config(
    data: str,
    frames: int = 8,
    fps: float | None = None,
    size: int = 64,
    epochs: int = 30,
    model: str = "frame_average",
    width: int = 32,
    views: str = "1x1",
) -> ConfigDict:
    """Returns the config.

    Args:
      data: source of the videos, such as "folder:/my/videos" or "manifest:/my/videos.csv".
      frames: number of frames of a clip.
      fps: frames per second of a clip, for actions that are short; None: one frame of each of
        `frames` equal parts of the video.
      size: side of the frames in pixels.
      epochs: length of training.
      model: a model of clips that takes any model of images as its backbone.
      width: channels of the first stage of its ResNet.
      views: clips x crops of each video in evaluation, 1 or 3 crops; more than one clip with `fps`.
    """
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 16

    c.model = ConfigDict(dict(name=model, backbone="resnet18"))
    c.model.backbone_options = ConfigDict(dict(stem="cifar", width=width))
    c.objective = ConfigDict(dict(name="supervised", loss="auto"))

    c.data = ConfigDict()
    c.data.source = data
    c.data.missing_splits = "replace"
    # A little larger than the crops, and scaled while it is decoded.
    scaled = f"size={size * 8 // 7}"
    sample = f"sample_segments({frames}, {scaled})"
    if fps is not None:
        sample = f"sample_frames({frames}, fps={fps}, {{clips}}{scaled})"
    c.data.train_transform = (
        f"{sample.format(clips='')}|random_resized_crop({size}, scale=(0.5, 1.0))"
    )
    c.data.eval_transform = clip_views.eval_transform(sample, size, views)
    c.data.mean = (0.485, 0.456, 0.406)
    c.data.std = (0.229, 0.224, 0.225)

    c.optim = ConfigDict()
    c.optim.name = "adamw"
    c.optim.learning_rate = 1e-3
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 percent"

    c.guard = ConfigDict(dict(skip=5, rollback=True))

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="val", every="10 percent"))
    c.evaluators.test = ConfigDict(dict(split="test", every="100 percent"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "10 percent"
    c.checkpoint.keep_best = "val/loss"
    c.checkpoint.use = "best"
    return c
