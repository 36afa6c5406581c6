"""Examples before and after their transforms, as an HTML page."""

import html as html_lib

import numpy as np
from ml_collections import ConfigDict

from imgcls.browse.examples import Examples, Shown, Stage
from imgcls.data.transforms.transform import takes_videos
from imgcls.predict.explain import draw
from imgcls.report import html

# Longest side of a picture in pixels, and of slices and frames.
SIDE, WIDE = 176, 260


def write(examples: Examples, config: ConfigDict) -> str:
    """Returns the page."""
    is_clip = takes_videos(config.data.eval_transform, "config.data.eval_transform")
    return html.render(
        "browse.html",
        examples=examples,
        data=config.data,
        mixes=bool(config.data.batch_transform),
        rows=[_row(shown, is_clip) for shown in examples.shown],
        stages={
            key: [
                {
                    "name": stage.name,
                    "image": _uri(stage.image, is_clip),
                    "shape": _facts(stage),
                }
                for stage in stages
            ]
            for key, stages in examples.stages.items()
        },
    )


def _row(shown: Shown, is_clip: bool) -> dict:
    return {
        "position": shown.position,
        "name": shown.name,
        "label": shown.label,
        "original": _uri(shown.original, is_clip),
        "views": [_uri(view, is_clip) for view in shown.views],
        "mixed": [_uri(view, is_clip) for view in shown.batch_views],
        "mixed_label": shown.batch_label,
        "evaluated": _uri(shown.evaluated, is_clip),
    }


def _facts(stage: Stage) -> str:
    """Shape, dtype and range of an image, as in `[224, 224, 3] uint8, 0 to 255`."""
    low, high = float(stage.image.min()), float(stage.image.max())
    return f"{list(stage.image.shape)} {stage.image.dtype}, {low:.4g} to {high:.4g}"


def _uri(image: np.ndarray, is_clip: bool) -> str:
    """A picture of an image, a volume (slices) or a clip (four frames)."""
    if image.ndim == 5:
        image = image[len(image) // 2]
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        if low < 0 or high > 255 or high <= 1:
            image = (image - low) * (255 / max(high - low, 1e-12))
        image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    if image.ndim == 4:
        image = draw(image, np.zeros(image.shape[:3], np.float32), is_clip)
        return html.image_uri(image, WIDE)
    return html.image_uri(image, SIDE)


def in_frame(text: str) -> str:
    """The page in a frame of a notebook."""
    style = "width:100%;height:720px;border:1px solid #8884;border-radius:6px"
    return f'<iframe sandbox style="{style}" srcdoc="{html_lib.escape(text, quote=True)}"></iframe>'
