"""Self-contained HTML pages: one file that opens from disk without a network.

Templates are in `report/templates/` and extend `base.html`. Every value is escaped, since file and
class names are untrusted. Images and charts are embedded as data URIs.
"""

import base64
import functools
import io
import warnings

import jinja2
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

# Images with sides of at most this many pixels are embedded as PNG, without loss.
SMALL = 64
# Milliseconds for which a frame of an animation is shown.
FRAME_MS = 160
# Numbers of frames and qualities of WebP of an animation, until it is small enough.
ANIMATIONS = ((12, 70), (12, 40), (8, 40), (6, 20), (4, 5))


def render(template: str, **values) -> str:
    """Renders a template, such as `'audit.html'`, with the given values."""
    return _templates().get_template(template).render(**values)


def image_uri(image: np.ndarray, size: int, quality: int = 85) -> str:
    """Returns the data URI of an image, for `<img src>`.

    Args:
      image: uint8 `[H, W]` or `[H, W, C]`; of more than 3 channels the first 3 are shown, of 2 the
        first.
      size: longest side in pixels; larger images are shrunk, smaller ones are not enlarged.
      quality: JPEG quality, 1 to 100.
    """
    thumbnail, data = _shrink(image, size), io.BytesIO()
    if max(thumbnail.size) <= SMALL:
        thumbnail.save(data, "png")
        return _data_uri("image/png", data.getvalue())
    thumbnail.save(data, "jpeg", quality=quality)
    return _data_uri("image/jpeg", data.getvalue())


def animation_uri(clip: np.ndarray, size: int, largest: int) -> str | None:
    """Returns the data URI of a clip as a WebP that plays in a loop, for `<img src>`.

    Up to 12 frames, evenly spaced from the first to the last, are shown for 0.16 seconds each.

    Args:
      clip: uint8 `[T, H, W, C]`; for C see `image_uri`.
      size: longest side in pixels.
      largest: largest number of bytes; fewer frames in a lower quality are taken until it fits.

    Returns:
      None if nothing moves, as in a clip of one frame, or if even the smallest animation is larger.
    """
    shrunk: dict[int, Image.Image] = {}
    for count, quality in ANIMATIONS:
        chosen = np.unique(np.linspace(0, len(clip) - 1, count).round().astype(int))
        frames = [shrunk.setdefault(i, _shrink(clip[i], size)) for i in chosen.tolist()]
        frames = [frame for n, frame in enumerate(frames) if not n or frame != frames[n - 1]]
        if len(frames) < 2:
            return None
        options = dict(duration=FRAME_MS, loop=0, quality=quality)
        data = io.BytesIO()
        frames[0].save(data, "webp", save_all=True, append_images=frames[1:], **options)
        if data.tell() <= largest:
            return _data_uri("image/webp", data.getvalue())
    return None


def chart_uri(figure: Figure) -> str:
    """Returns the data URI of a matplotlib figure as SVG, for `<img src>`.

    Text is embedded as text and shown with the reader's fonts, which cover all scripts. Math is not
    parsed, since a class may be named `$x$`. The same figure gives the same bytes.
    """
    for artist in figure.findobj(Text):
        if isinstance(artist, Text):
            artist.set_parse_math(False)
    data = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "imgcls"}), warnings.catch_warnings():
        # The reader's fonts have the glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(data, format="svg", metadata={"Date": None})
    return _data_uri("image/svg+xml", data.getvalue())


def _shrink(image: np.ndarray, size: int) -> Image.Image:
    """An image of at most `size` pixels a side, see `image_uri`."""
    if image.ndim == 3:
        image = image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
    thumbnail = Image.fromarray(np.ascontiguousarray(image))
    thumbnail.thumbnail((size, size), Image.Resampling.LANCZOS)
    return thumbnail


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _counted(number: int, noun: str = "") -> str:
    """Formats a number, and its noun in singular or plural: `1,234 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if noun else f"{number:,}"


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imgcls.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["counted"] = _counted
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}%"
    return environment
