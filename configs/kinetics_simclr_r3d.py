"""SimCLR on two clips of each video of Kinetics-400, with a Slow R50: CVRL.

    python -m imgcls.main --workdir=/runs/cvrl \
      --config=kinetics_simclr_r3d:data=folder:/data/kinetics400

Qian et al. 2020, arXiv:2008.03800, section 4, by the authors' code (tensorflow/models,
`official/projects/video_ssl`, `cvrl_pretrain_k600_200ep.yaml` and `video_ssl_input.py`): their
R3D-50 is a Slow R50 whose stem has a kernel of 5 and a stride of 2 along time, here a kernel of 5
and no stride; clips of 16 frames with a stride of 2; a projector with three hidden layers; SGD at
0.32, and solarization in the second view alone. The two clips are drawn independently, there with a
distance whose probability decreases linearly.

Target: 66.1 % top-1 by a linear classifier on frozen features after 800 epochs, 63.8 % after 200
(their README; views of the evaluation: 10 clips x 3 crops of 32 frames, here 1 x 1 of 16).
"""

from ml_collections import ConfigDict


def get_config(data: str = "folder:kinetics400", epochs: int = 800) -> ConfigDict:
    """Returns the config.

    Args:
      data: source of the videos, with the splits train and val.
      epochs: length of training.
    """
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 1024

    # BatchNorm over the full batch, as in imagenet_simclr_resnet50.py.
    c.model = ConfigDict(dict(name="slow_r50", dtype="bfloat16", stem_time=5, drop_rate=0.0))
    c.objective = ConfigDict(dict(name="simclr", temperature=0.1, hidden=2048, features=128))
    c.objective.layers = 4
    c.objective.probe = True

    c.data = ConfigDict()
    c.data.source = data
    c.data.train_split = "train"
    c.data.views = "two"
    sample = "sample_frames(16, stride=2, size=256)"
    crop = "random_resized_crop(224, scale=(0.3, 1.0), ratio=(0.5, 2.0))|flip"
    color = "color_jitter(0.8, 0.8, 0.8, 0.2, p=0.8)|grayscale(0.2)"
    blur = "gaussian_blur({}, sigma=(0.1, 2.0))"
    c.data.train_transform = f"{sample}|{crop}|{color}|{blur.format(1.0)}"
    c.data.train_transform2 = f"{sample}|{crop}|{color}|{blur.format(0.1)}|solarize(0.2)"
    c.data.eval_transform = f"{sample}|center_crop(224)"
    c.data.mean = (0.5, 0.5, 0.5)
    c.data.std = (0.5, 0.5, 0.5)

    c.optim = ConfigDict()
    c.optim.name = "sgd"
    c.optim.learning_rate = 0.32
    c.optim.momentum = 0.9
    c.optim.nesterov = False
    c.optim.weight_decay = 1e-6
    c.optim.decay_exclude = "bias|scale|probe"

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 epochs"

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="val", every="10 epochs"))  # the probe's
    c.evaluators.knn = ConfigDict(dict(type="knn", split="val", every="20 epochs"))
    c.evaluators.knn.train_split = "train[:10%]"

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "knn/accuracy"
    return c
