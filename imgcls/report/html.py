"""Self-contained HTML pages: one file that opens from disk without a network.

Templates lie in `report/templates/` and extend `base.html`. Every value is escaped: file and class
names come from strangers. Pictures and charts stand in the page itself, as data URIs.
"""

import base64
import functools
import io
import warnings

import jinja2
import numpy as np
from PIL import Image


def render(template: str, **values) -> str:
    """The page of a template, such as `'audit.html'`."""
    return _templates().get_template(template).render(**values)


def picture(image: np.ndarray, size: int, quality: int = 85) -> str:
    """The data URI of a picture, for `<img src>`.

    Args:
      image: uint8 `[H, W, 3]`, `[H, W, 1]` or `[H, W]`.
      size: it is made smaller until both sides are at most this many pixels; never larger.
      quality: of the JPEG. Pictures of at most 64 pixels are kept as PNG, without loss.
    """
    shown = Image.fromarray(
        image.squeeze(-1) if image.ndim == 3 and image.shape[-1] == 1 else image
    )
    shown.thumbnail((size, size), Image.Resampling.LANCZOS)
    small = max(shown.size) <= 64
    data = io.BytesIO()
    shown.save(data, "png" if small else "jpeg", **({} if small else {"quality": quality}))
    return _data_uri("image/png" if small else "image/jpeg", data.getvalue())


def chart(figure) -> str:
    """The data URI of a matplotlib figure as SVG, for `<img src>`.

    Its texts are shown as they are, with the fonts of the reader: formulas are not read, as a class
    may be called `$x$`, and every script has its letters. The same figure gives the same bytes.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    data = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "imgcls"}), warnings.catch_warnings():
        # Letters that matplotlib's font lacks are found in those of the reader.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(data, format="svg", metadata={"Date": None})
    return _data_uri("image/svg+xml", data.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("imgcls.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
