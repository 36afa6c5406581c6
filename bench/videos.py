"""Videos for the measurements: synthetic ones, or many links to a few real ones."""

import os
import pathlib
from collections.abc import Iterator, Sequence
from fractions import Fraction

import cv2
import numpy as np


def draw_frames(count: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Yields frames uint8 `[H, W, 3]` of a moving texture, which does not repeat soon."""
    rng = np.random.default_rng(0)
    shape = (2 * height, 2 * width)
    texture = np.zeros((*shape, 3), np.float32)
    for cell, strength in ((64, 90), (16, 40), (4, 20)):
        coarse = rng.uniform(-1, 1, (shape[0] // cell, shape[1] // cell, 3)).astype(np.float32)
        texture += strength * cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    texture = np.clip(texture + 128, 0, 255).astype(np.uint8)
    for number in range(count):
        down = int((1 + np.sin(number / 37)) / 2 * (height - 1))
        right = int((1 + np.sin(number / 53 + 1)) / 2 * (width - 1))
        frame = texture[down : down + height, right : right + width].copy()
        x = (7 * number) % (width - 40)
        cv2.circle(frame, (x + 20, height // 2), 20, (255, number % 256, 0), -1)
        yield frame


def write_video(
    path: str | pathlib.Path,
    count: int,
    *,
    size: tuple[int, int] = (360, 640),
    codec: str = "libx264",
    gop: int = 250,
    rate: int = 30,
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
) -> None:
    """Writes `draw_frames` to a file.

    Args:
      path: file; its extension chooses the container.
      count: number of frames.
      size: height and width.
      codec: FFmpeg's name of the encoder.
      gop: largest distance of keyframes.
      rate: frames per second, or units of `pts`.
      options: options of the encoder.
      pts: presentation times in 1 / `rate` seconds; None: 0, 1, 2 ...
    """
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.gop_size = gop
        for number, pixels in enumerate(draw_frames(count, *size)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number if pts is None else pts[number]
            frame.time_base = Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def link_videos(videos: str, folder: str, count: int) -> str:
    """Links each video of a folder many times, so that an epoch is long; returns `folder`.

    Args:
      videos: directory with videos.
      folder: directory in which the links `train/video/*` are made.
      count: smallest number of links.
    """
    from imgcls.data.decode.containers import VIDEO_EXTENSIONS

    files = sorted(p for p in pathlib.Path(videos).resolve().rglob("*") if p.is_file())
    files = [p for p in files if p.suffix.lower() in VIDEO_EXTENSIONS]
    if not files:
        raise SystemExit(f"error: --videos={videos}: no videos")
    place = pathlib.Path(folder, "train", "video")
    place.mkdir(parents=True)
    for file in files:
        for copy in range(-(-count // len(files))):
            os.symlink(file, place / f"{file.stem}_{copy:03d}{file.suffix}")
    return folder
