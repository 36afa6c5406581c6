"""The views of videos in evaluation, which the recipes of videos take as `views=10x3`."""

import re

from imgcls.core.errors import ConfigError


def eval_transform(sample: str, size: int, views: str) -> str:
    """The transform that evaluates each video on several clips and crops.

    >>> eval_transform("sample_frames(8, stride=8, {clips}size=256)", 256, "10x3")
    'sample_frames(8, stride=8, clips=10, size=256)|three_crops(256)'

    Args:
      sample: transform that samples frames, with `{clips}` where the number of clips belongs; one
        that samples a single clip has no such place.
      size: side of the crops in pixels.
      views: number of clips, `x`, and number of crops of each: 1 in the middle, or 3 along the
        longer side.

    Raises:
      ConfigError: `views` is not of this form, or `sample` has a single clip and more are wanted.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,3})x([13])", str(views))
    if found is None:
        raise ConfigError(f"views={views!r}: must be CLIPSxCROPS, such as 10x3, with 1 or 3 crops")
    clips, crop = int(found[1]), "three_crops" if found[2] == "3" else "center_crop"
    if clips > 1 and "{clips}" not in sample:
        name = sample.partition("(")[0]
        raise ConfigError(
            f"views={views!r}: {name} covers the whole video with one clip; write 1x{found[2]}, or "
            "set fps"
        )
    return f"{sample.format(clips='' if clips == 1 else f'clips={clips}, ')}|{crop}({size})"
