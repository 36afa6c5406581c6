"""Writes small videos whose frames show their own number, for tests."""

import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

# A number is eight bits in cells of 2 rows and 4 columns.
_BITS = np.arange(8).reshape(2, 4)


def numbered(number: int, height: int = 64, width: int = 96, channels: int = 3) -> np.ndarray:
    """A frame uint8 `[H, W, C]` that shows a number below 256 in black and white cells."""
    cells = np.where(number >> _BITS & 1, 235, 16).astype(np.uint8)
    rows, columns = np.arange(height) * 2 // height, np.arange(width) * 4 // width
    return np.repeat(cells[rows][:, columns, None], channels, axis=2)


def number_in(frame: np.ndarray) -> int:
    """The number that an upright frame `[H, W, C]` shows, also after compression."""
    height, width = frame.shape[:2]
    rows = (np.arange(2) * 2 + 1) * height // 4
    columns = (np.arange(4) * 2 + 1) * width // 8
    return int(((frame[rows][:, columns].mean(-1) > 126).astype(int) << _BITS).sum())


def write_video(
    frames: Sequence[np.ndarray] | np.ndarray,
    container: str = "mp4",
    codec: str = "libx264",
    *,
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    rate: int = 25,
    pixels: str | None = None,
    matrix: Sequence[int] | None = None,
    flags: dict[str, str] | None = None,
    gop: int | None = None,
) -> bytes:
    """Encodes frames uint8 `[H, W, 3]`.

    Args:
      frames: frames in the order of presentation.
      container, codec: FFmpeg's names.
      options: options of the encoder.
      pts: presentation times in 1 / `rate` seconds; None: 0, 1, 2 ...
      rate: frames per second, or units of `pts`.
      pixels: FFmpeg's name of the pixel format; None: yuv420p.
      matrix: the nine numbers of the display matrix.
      flags: options of the container.
      gop: largest distance of keyframes.
    """
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options=flags or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels or "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.thread_count = 1
        if gop is not None:
            stream.codec_context.gop_size = gop
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for number, pixels_of in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels_of, format="rgb24")
            frame.pts = number if pts is None else pts[number]
            frame.time_base = Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def sequential(data: bytes) -> np.ndarray:
    """All frames uint8 `[N, H, W, 3]`, decoded from the first to the last."""
    import av

    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.best("video")
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)])


def numbered_video(count: int, container: str = "mp4", codec: str = "libx264", **kwargs) -> bytes:
    """A video of the numbers 0 to `count` - 1."""
    size = kwargs.pop("size", (64, 96))
    return write_video([numbered(n, *size) for n in range(count)], container, codec, **kwargs)
