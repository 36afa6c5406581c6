"""Classes that differ in three dimensions only: which models tell them apart.

python -m pytest -m slow tests/end_to_end/test_handedness.py
"""

import numpy as np
import pytest

import imgcls
from tests import spirals

ARGUMENTS = (
    "--config=configs/digits.py",
    "--config.total=8 epochs",
    "--config.batch_size=32",
    "--config.data.train_transform=",
    "--config.data.eval_transform=",
    "--config.optim.learning_rate=0.05",
    "--config.schedule.warmup=5 percent",
    "--config.checkpoint.every=100 percent",
    "--config.evaluators.test.every=100 percent",
)
MODEL3D = "--config.model={'name': 'resnet3d_10', 'stem': 'stride2', 'width': 16}"
FLIPS = "--config.data.train_transform=flip3d(axes=2)"
# The mean of the features of all slices, without their order.
SLICES = (
    "--config.model={}",
    "--config.model={'name': 'slices2d', 'backbone': 'resnet18', 'pool': 'mean'}",
    "--config.model.backbone_options={'stem': 'cifar', 'width': 16, 'stage_sizes': (1, 1)}",
)


def test_slices_and_projections_of_both_hands_are_the_same():
    """A spiral mirrored along any axis is one of the other hand, with another phase."""
    rng = np.random.default_rng(0)
    for phase in rng.uniform(0, 2 * np.pi, 5):
        right, phases = spirals.spiral(phase, 1), (phase, -phase, np.pi - phase)
        for axis, other in enumerate(phases):
            left = spirals.spiral(other, -1)
            np.testing.assert_allclose(np.flip(right, axis), left, atol=1e-9)
            # So the slices along this axis are those of the other hand, and so is their sum.
            slices = [np.moveaxis(x, axis, 0).reshape(spirals.SIDE, -1) for x in (right, left)]
            np.testing.assert_allclose(slices[0][::-1], slices[1], atol=1e-9)
            np.testing.assert_allclose(right.sum(axis), left.sum(axis), atol=1e-9)
            assert np.abs(right - left).max() > 0.5


def test_the_hand_is_the_label_and_flips_exchange_it():
    volumes, labels = spirals.draw(64, 0)

    def turns_right(volume: np.ndarray) -> bool:
        """Whether the center of the slices turns from axis 2 to axis 1."""
        weights = np.maximum(volume - 100.0, 0)
        center = np.arange(spirals.SIDE) - (spirals.SIDE - 1) / 2
        h, w = ((weights * c).sum((1, 2)) for c in (center[:, None], center))
        return (w[:-1] * h[1:] - h[:-1] * w[1:]).sum() > 0

    assert sorted(set(labels)) == [0, 1]
    for volume, label in zip(volumes, labels, strict=True):
        assert turns_right(volume) == label
        assert all(turns_right(np.flip(volume, axis)) != label for axis in range(3))
    # Neither the mean of all voxels nor its spread tells the hand.
    means = volumes.reshape(64, -1).mean(1)
    difference = means[labels == 0].mean() - means[labels == 1].mean()
    assert abs(difference) < 3 * means.std() / np.sqrt(16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "low", "high"),
    [
        pytest.param((MODEL3D,), 0.95, 1.0, id="volumes"),
        # Mirrored along one axis, half of the examples of a class are those of the other.
        pytest.param(
            (MODEL3D, "--config.data.train_transform=flip3d(axes=2)"), 0.4, 0.6, id="flips"
        ),
        pytest.param(SLICES, 0.4, 0.6, id="slices"),
    ],
)
def test_which_models_tell_the_hand(overrides, low, high, command, tmp_path):
    source = spirals.save(tmp_path / "spirals.npz", train=512, test=256)
    workdir = tmp_path / "run"
    flags = (*ARGUMENTS, *overrides, f"--config.data.source={source}", f"--workdir={workdir}")
    done = command("main", *flags, timeout=1800)
    assert done.returncode == 0, done.stderr
    accuracy = imgcls.load(workdir).evaluate("test", bootstrap=0).metrics["accuracy"]
    assert low <= accuracy <= high
