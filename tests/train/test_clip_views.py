"""The argument `views` of the recipes of videos."""

import numpy as np
import pytest

from imgcls.core.config import load
from imgcls.core.errors import ConfigError
from imgcls.data.decode.clips import ArrayVideo
from imgcls.data.transforms import spec
from imgcls.data.transforms.apply import transform_video
from imgcls.data.transforms.transform import TRANSFORMS
from imgcls.train import clip_views
from tests.conftest import REPO

# The published number of views, and the side of the crops.
RECIPES = {
    "kinetics_slow_r50.py": ("10x3", 256),
    "kinetics_vivit_b16.py": ("4x3", 224),
    "kinetics_r3d_18.py": ("5x1", 112),
    "ucf101_r2plus1d_18.py": ("10x1", 112),
    "ucf101_cnn_lstm.py": ("10x1", 224),
    "own_videos.py:data=folder:x,fps=8": ("1x1", 64),
}


def read(recipe: str, views: str | None = None) -> str:
    separator = "," if ":" in recipe else ":"
    more = "" if views is None else f"{separator}views={views}"
    return load(f"{REPO / 'configs' / recipe}{more}").data.eval_transform


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes(recipe):
    """The default is the published one; frames stay as they are."""
    published, side = RECIPES[recipe]
    assert read(recipe) == read(recipe, published)
    samplers = set()
    for views, crop in (("2x3", "three_crops"), ("7x1", "center_crop"), ("1x1", "center_crop")):
        (name, args, options), (last, size, _) = spec.calls(read(recipe, views), "eval_transform")
        assert (last, list(size)) == (crop, [side])
        assert options.pop("clips", 1) == int(views[0])
        samplers.add((name, *args, *sorted(options.items())))
    assert len(samplers) == 1


def test_number_of_clips():
    video = np.random.default_rng(0).integers(0, 256, (20, 12, 16, 3), np.uint8)
    for views in ("1x1", "1x3", "4x1", "4x3"):
        recipe = clip_views.eval_transform("sample_frames(2, {clips}size=12)", 8, views)
        transforms = spec.parse(recipe, TRANSFORMS, "eval_transform")
        rng = np.random.default_rng(0)
        clips = transform_video(ArrayVideo(video, "x"), transforms, rng, train=False)
        count = int(views[0]) * int(views[2])
        assert clips.reshape(-1, 2, 8, 8, 3).shape[0] == count


@pytest.mark.parametrize(
    "views", ["10", "10x2", "x3", "0x3", "0x1", "-1x1", "10 x 3", "10X3", "1.5x1"]
)
def test_mistakes(views):
    with pytest.raises(ConfigError, match=r"views=\S.*: must be CLIPSxCROPS, such as 10x3") as e:
        read("kinetics_slow_r50.py", views)
    assert "\n" not in str(e.value) and "fails" not in str(e.value)


def test_one_clip_of_segments():
    assert read("own_videos.py:data=folder:x", "1x3").endswith("|three_crops(64)")
    with pytest.raises(ConfigError, match="views='4x3': sample_segments .* write 1x3, or set fps"):
        read("own_videos.py:data=folder:x", "4x3")
