"""Which frames a clip has, and transforms of images on its frames."""

import collections

import jax
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.decode.clips import ArrayVideo
from imgcls.data.transforms import spec
from imgcls.data.transforms.apply import transform_frames, transform_image, transform_video
from imgcls.data.transforms.clip import sample_frames, sample_segments
from imgcls.data.transforms.transform import (
    BATCH_TRANSFORMS,
    TRANSFORMS,
    ClipTransform,
    VolumeTransform,
    takes_videos,
)

# Arguments of transforms that have no defaults.
ARGUMENTS = {
    "center_crop": "6",
    "eval_crop": "6",
    "gaussian_blur": "1.0",
    "grayscale": "0.5",
    "pad_crop": "8",
    "random_resized_crop": "6",
    "resize": "6",
    "resize_random_crop": "8",
    "solarize": "0.5",
    "color_jitter": "0.4, 0.4, 0.4, 0.1",
}
# Transforms of volumes and videos that need arguments.
OTHERS = ("window", "resample", "sample_frames", "sample_segments", "three_crops")


def video(count: int) -> ArrayVideo:
    """Frames whose value is their number."""
    return ArrayVideo(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), "video")


class TimedVideo(ArrayVideo):
    def __init__(self, times):
        super().__init__(video(len(times))._array, "video")
        self.times = np.array(times, float)


def numbers(clip: np.ndarray) -> list:
    return clip[..., 0, 0, 0].tolist()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_training_draws_every_start_equally_often():
    sample = sample_frames(3, stride=4)
    starts = collections.Counter()
    for seed in range(2000):
        first, second, third = numbers(sample(video(13), rng(seed)))
        assert (second - first, third - second) == (4, 4)
        starts[first] += 1
    # 13 frames have room for 5 stretches of 9.
    assert sorted(starts) == [0, 1, 2, 3, 4]
    assert min(starts.values()) > 320 and max(starts.values()) < 480


def test_evaluation_takes_the_middle_or_evenly_spaced_clips():
    assert numbers(sample_frames(3, stride=4)(video(13), None)) == [2, 6, 10]
    assert numbers(sample_frames(3, stride=4)(video(14), None)) == [2, 6, 10]
    views = sample_frames(2, stride=2, clips=3)(video(11), None)
    assert views.shape == (3, 2, 1, 1, 1)
    assert numbers(views) == [[0, 2], [4, 6], [8, 10]]
    # In training there is one.
    assert sample_frames(2, stride=2, clips=3)(video(11), rng()).shape == (2, 1, 1, 1)


@pytest.mark.parametrize("train", [False, True])
def test_short_videos_loop_or_hold(train):
    draw = rng() if train else None
    assert numbers(sample_frames(8)(video(3), draw)) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert numbers(sample_frames(5, short="hold")(video(3), draw)) == [0, 1, 2, 2, 2]
    assert numbers(sample_frames(4, stride=2)(video(1), draw)) == [0] * 4
    assert numbers(sample_segments(4)(video(1), draw)) == [0] * 4
    times = TimedVideo([0.0, 0.1, 0.2])
    assert numbers(sample_frames(8, fps=10)(times, draw)) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert numbers(sample_frames(5, fps=10, short="hold")(times, draw)) == [0, 1, 2, 2, 2]
    assert numbers(sample_frames(3, fps=10)(TimedVideo([0.0]), draw)) == [0] * 3


@pytest.mark.parametrize(("frames", "stride", "real"), [(3, 1, 3), (9, 1, 5), (5, 2, 3), (1, 2, 1)])
def test_padded_clips_state_their_length(frames, stride, real):
    sample = sample_frames(5, stride=stride, short="pad")
    hold = sample_frames(5, stride=stride, short="hold")
    assert sample.count is not None and hold.count is None
    assert sample.count(video(frames)) == real
    assert numbers(sample(video(frames), None)) == numbers(hold(video(frames), None))


def test_padded_clips_by_time_state_their_length():
    sample = sample_frames(5, fps=5, short="pad")
    assert sample.count is not None
    # Shown for 0.1 seconds each: 0.4 seconds hold two frames, at 0 and 0.2.
    assert sample.count(TimedVideo([0.0, 0.1, 0.2, 0.3])) == 2
    assert sample.count(TimedVideo([0.0])) == 1


def test_frames_by_time_are_those_that_are_shown():
    times = np.cumsum([0, *np.random.default_rng(1).uniform(0.01, 0.3, 49)])
    sample, length = sample_frames(6, fps=2.5), 5 / 2.5
    start = (times[-1] - length) / 2
    for draw in (None, 3, 4, 5):
        if draw is not None:
            start = rng(draw).uniform(0, times[-1] - length)
        expected = [max(n for n in range(50) if times[n] <= start + k / 2.5) for k in range(6)]
        got = sample(TimedVideo(times), None if draw is None else rng(draw))
        assert numbers(got) == expected


def test_frames_by_time_need_times():
    with pytest.raises(ConfigError, match="video states no times.* write stride instead of fps"):
        sample_frames(4, fps=2)(video(9), None)


@pytest.mark.parametrize("count", [4, 7, 16, 50])
def test_segments_have_one_frame_each(count):
    sample = sample_segments(4)
    middle = [int((k + 0.5) * count / 4) for k in range(4)]
    assert numbers(sample(video(count), None)) == middle
    seen = [set() for _ in range(4)]
    for seed in range(400):
        for k, number in enumerate(numbers(sample(video(count), rng(seed)))):
            seen[k].add(number)
    for k in range(4):
        # All frames that are shown in a quarter of the video, also in part.
        assert seen[k] == {
            n for n in range(count) if n < (k + 1) * count / 4 and n + 1 > k * count / 4
        }


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("sample_frames(0)", "length=0 must be an integer of at least 1"),
        ("sample_frames(8, stride=2, fps=4)", "exclude each other"),
        ("sample_frames(8, short='stop')", "short='stop' must be one of loop, hold, pad"),
        ("sample_frames(8, size=(1, 2, 3))", "must be an integer or a pair"),
        ("sample_segments(2.5)", "segments=2.5 must be an integer"),
    ],
)
def test_invalid_arguments(recipe, message):
    with pytest.raises(ConfigError, match=message):
        spec.parse(recipe, TRANSFORMS, "x")


def image_transforms() -> list[str]:
    names = []
    for name in TRANSFORMS:
        try:
            made = make(name)
        except ConfigError:  # Those of other kinds may need arguments too.
            assert name.endswith("3d") or name in OTHERS, f"{name}: add its arguments above"
            continue
        if not isinstance(made, VolumeTransform | ClipTransform):
            names.append(name)
    return names


def make(name: str):
    return spec.parse(f"{name}({ARGUMENTS.get(name, '')})", TRANSFORMS, name)[0]


def test_every_transform_of_images_has_one_draw_for_all_frames():
    image = np.random.default_rng(5).integers(0, 256, (8, 8, 3), np.uint8)
    clip = np.stack([image] * 4)
    names = image_transforms()
    assert {"flip", "random_resized_crop", "rand_augment", "trivial_augment"} <= {*names}
    for name in names:
        for seed in range(20):
            transform = make(name)
            one, all_frames = rng(seed), rng(seed)
            expected = transform(image, one)
            changed = transform_frames(clip, transform, all_frames)
            np.testing.assert_array_equal(changed, np.stack([expected] * 4), err_msg=name)
            # The next transform draws the same numbers as after one image.
            assert one.bit_generator.state == all_frames.bit_generator.state, name
    np.testing.assert_array_equal(clip[2], image)


def test_views_are_transformed_alike():
    recipe = "sample_frames(2, stride=2, clips=3)|resize((4, 4))|flip"
    transforms = spec.parse(recipe, TRANSFORMS, "x")
    frames = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), np.uint8)
    got = transform_video(ArrayVideo(frames, "video"), transforms, rng(), train=False)
    assert got.shape == (3, 2, 4, 4, 3)
    chosen = frames[[[0, 2], [4, 6], [8, 10]]]
    _, resize, flip = transforms
    flipped = flip(resize(chosen[1, 0], rng()), rng())
    np.testing.assert_array_equal(got[1, 0], flipped)


def test_transforms_of_volumes_and_a_second_sampler_are_refused():
    for recipe, message in (
        ("sample_frames(2)|flip3d", "flip3d is for volumes .* the data has images"),
        ("sample_frames(2)|sample_segments(2)", "sample_segments is for videos, before all"),
    ):
        transforms = spec.parse(recipe, TRANSFORMS, "x")
        with pytest.raises(ConfigError, match=message):
            transform_video(video(9), transforms, rng(), train=True)


def test_recipes_of_videos_are_recognized():
    assert takes_videos("sample_frames(8)|flip", "x") and takes_videos("sample_segments(3)", "x")
    assert not takes_videos("flip|sample_frames(8)", "x") and not takes_videos("", "x")
    assert not takes_videos("auto", "x")


BATCH_ARGUMENTS = {
    "mixup": "0.8",
    "cutmix": "1.0",
    "mixup_or_cutmix": "0.8, 1.0",
    "random_erasing": "1.0",
    "random_translate": "2",
    "cutout": "3",
    "label_smoothing": "0.1",
}


def test_every_transform_of_batches_has_one_draw_for_all_frames():
    """But for those over three axes; each changes the frames as it changes images."""
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
    clips = np.stack([images] * 4, axis=1)
    others = {"label": np.arange(6) % 3, "index": np.arange(6), "epoch": np.zeros(6, int)}
    for name in BATCH_TRANSFORMS:
        if name.endswith("3d"):
            continue
        recipe = f"{name}({BATCH_ARGUMENTS.get(name, '')})"
        (transform,) = spec.parse(recipe, BATCH_TRANSFORMS, name)
        for seed in range(3):
            key = jax.random.key(seed)
            changed = transform({"image": jax.numpy.asarray(clips), **others}, key, 3)
            alone = transform({"image": jax.numpy.asarray(images), **others}, key, 3)
            expected = np.stack([alone["image"]] * 4, axis=1)
            np.testing.assert_allclose(changed["image"], expected, atol=1e-6, err_msg=name)
            np.testing.assert_array_equal(changed["label"], alone["label"], err_msg=name)


@pytest.mark.parametrize(("height", "width"), [(6, 11), (11, 6), (6, 6)])
def test_three_crops_lie_along_the_longer_side(height, width):
    frames = np.random.default_rng(0).integers(0, 256, (5, height, width, 3), np.uint8)
    transforms = spec.parse("sample_frames(2, clips=2)|three_crops(6)", TRANSFORMS, "x")
    views = transform_video(ArrayVideo(frames, "video"), transforms, rng(), train=False)
    assert views.shape == (6, 2, 6, 6, 3)
    expected = []
    for place in (0, 0.5, 1):
        top, left = int((height - 6) * place), int((width - 6) * place)
        cropped = frames[:, top : top + 6, left : left + 6]
        expected += [cropped[0:2], cropped[3:5]]
    np.testing.assert_array_equal(views, expected)
    # Of one clip too, and then flipped or not, all alike.
    alone = spec.parse("sample_frames(5)|three_crops(6)|flip(1)", TRANSFORMS, "x")
    views = transform_video(ArrayVideo(frames, "video"), alone, rng(), train=False)
    np.testing.assert_array_equal(views[0], frames[:, :6, :6][:, :, ::-1])


def test_three_crops_are_for_evaluation_and_large_frames():
    frames = ArrayVideo(np.zeros((5, 4, 9, 3), np.uint8), "video")
    transforms = spec.parse("sample_frames(2)|three_crops(6)", TRANSFORMS, "x")
    with pytest.raises(ConfigError, match="three_crops is for evaluation"):
        transform_video(frames, transforms, rng(), train=True)
    with pytest.raises(ConfigError, match="frames have 9 x 4 pixels: add size=6"):
        transform_video(frames, transforms, rng(), train=False)
    with pytest.raises(ConfigError, match="three_crops is for videos, and the data has images"):
        transform_image(np.zeros((9, 9, 3), np.uint8), transforms[1:], rng())
