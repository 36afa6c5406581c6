"""Eight macromolecules in simulated subtomograms: rotated, shifted, noisy, with a missing wedge.

    python -m imgcls.main --config=configs/cryo_em.py:data=/data/cryo_maps --workdir=...

Each map of the folder is a class. All are resampled to voxels of 6 Å, and every example is a new
view of one of them, made on the fly: any rotation and shift, noise, and the frequencies that
remain of a tilt series of ±60°, as in the benchmark of Gubins et al. 2020 (SHREC; its task is to
find particles too) and in the networks for subtomograms of Che et al. 2017, arXiv:1707.04885.
No view is mirrored, because the mirror image of a molecule is another one. The 800 views of the
test split have rotations of their own. Target of our own: 90 % at signal-to-noise ratios from 0.1
to 1, where chance is 12.5 %. Reached: 97.9 %, with one seed. For one ratio, after training:

    python -m imgcls.evaluate --workdir=... --config.data.source='densities:...snr_noise3d(0.1)...'
"""

from ml_collections import ConfigDict

MAPS = (
    "gorgon_rotavirus_vp6.mrc",  # a protein of the inner capsid
    "imp_1e6v_20.mrc",  # methyl-coenzyme M reductase
    "imp_1gte_A_20.mrc",  # dihydropyrimidine dehydrogenase
    "imp_1oel_10.mrc",  # GroEL
    "imp_1tyq_10.mrc",  # Arp2/3 complex
    "imp_1z5s_10.mrc",  # Ubc9 with SUMO, RanGAP1 and RanBP2
    "imp_3sfd_15.mrc",  # succinate dehydrogenase
    "imp_emd_1883.gmm50.mrc",  # EMD-1883
)


def get_config(
    data: str = "cryo_maps",
    maps: str = ",".join(MAPS),
    snr: float = 0.1,
    snr_max: float = 1.0,
    tilt: float = 60.0,
    epochs: int = 5,
    width: int = 16,
) -> ConfigDict:
    """Returns the config.

    Args:
      data: folder of the maps.
      maps: names of the files, separated by commas; '' for all of the folder.
      snr, snr_max: range of the variance of the signal by that of the noise.
      tilt: largest tilt of the series, in degrees; 90 leaves no wedge out.
      epochs: length of training; an epoch has 1,000 views of each map.
      width: channels of the first stage.
    """
    c = ConfigDict()
    c.total = f"{epochs} epochs"
    c.batch_size = 32

    c.model = ConfigDict(dict(name="resnet3d_10", stem="stride2", width=width))
    c.objective = ConfigDict(dict(name="supervised", loss="softmax", label_smoothing=0.1))

    c.data = ConfigDict()
    files = f"{data}/{{{maps}}}" if maps else data
    box = "resample((6, 6, 6))|center_crop3d(32)|pad3d(32)"
    view = "affine3d(180, scale=(1, 1), translate=0.1)"
    view += f"|snr_noise3d(({snr}, {snr_max}))|missing_wedge({tilt})"
    c.data.source = f"densities:{files}|{box}|{view}"
    c.data.channels = 1
    # Views are in their box already; other densities, in `predict`, are brought to it.
    c.data.train_transform = f"{box}|sigma(4)"
    c.data.eval_transform = f"{box}|sigma(4)"
    # Voxels become z-scores.
    c.data.mean = (0.5,)
    c.data.std = (0.125,)

    c.optim = ConfigDict()
    c.optim.name = "adamw"
    c.optim.learning_rate = 2e-3
    c.optim.weight_decay = 0.05
    c.optim.clip_norm = 1.0

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"
    c.schedule.warmup = "5 percent"

    c.evaluators = ConfigDict()
    c.evaluators.val = ConfigDict(dict(split="val", every="1 epochs"))
    c.evaluators.test = ConfigDict(dict(split="test", every="100 percent"))

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_best = "val/accuracy"
    return c
