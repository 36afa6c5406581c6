"""The curves of `imgcls tune`: as text, as a page and as a picture."""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from imgcls.report import html
from imgcls.report.charts import ACCENT, SIZE, SOFT, STYLE
from imgcls.tune.batch_size import Size
from imgcls.tune.learning_rate import RateCurve

# Lines of the curve on a terminal, and its width in characters.
LINES, WIDTH = 24, 40


def rates_to_text(curve: RateCurve) -> str:
    """The curve for a terminal: a line for every few steps, a bar for the loss."""
    chosen = np.unique(np.linspace(0, len(curve.rates) - 1, LINES).astype(int))
    losses = curve.smoothed[chosen]
    top = np.nanmax(losses[np.isfinite(losses)], initial=1e-9)
    lines = [f"{'learning rate':>13}  loss"]
    for i, loss in zip(chosen, losses, strict=True):
        bar = "#" * round(WIDTH * min(max(loss / top, 0), 1)) if np.isfinite(loss) else ""
        lines.append(f"{curve.rates[i]:>13.3g}  {loss:<8.4g}  {bar}".rstrip())
    return "\n".join(lines)


def sizes_to_text(tried: list[Size]) -> str:
    """The table of batch sizes for a terminal."""
    lines = [f"{'batch size':>10}  {'images/s':>9}"]
    for size in tried:
        speed = "-" if size.images_per_second is None else f"{size.images_per_second:,.0f}"
        lines.append(f"{size.batch_size:>10}  {speed:>9}  {size.problem}".rstrip())
    return "\n".join(lines)


def draw_rates(curve: RateCurve) -> Figure:
    """The losses over the rates, with a line at the suggestion."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE)
        axes = figure.add_subplot(xlabel="learning rate", ylabel="loss", xscale="log")
        axes.plot(curve.rates, curve.losses, color=SOFT, alpha=0.4)
        axes.plot(curve.rates, curve.smoothed, color=ACCENT)
        finite = curve.smoothed[np.isfinite(curve.smoothed)]
        if len(finite):
            axes.set_ylim(0, 1.5 * float(finite[: len(finite) // 2 + 1].max()))
        if curve.suggestion is not None:
            axes.axvline(curve.suggestion, color=SOFT, linestyle="--")
    return figure


def write(curve: RateCurve | None, tried: list[Size] | None, size: int | None) -> str:
    """Returns the page."""
    return html.render(
        "tune.html",
        rates=None if curve is None else html.chart_uri(draw_rates(curve)),
        rate=None if curve is None else curve.suggestion,
        tried=tried,
        size=size,
    )


def picture(curve: RateCurve) -> bytes:
    """The curve of the learning rates as PNG."""
    data = io.BytesIO()
    draw_rates(curve).savefig(data, format="png", dpi=150)
    return data.getvalue()
