"""Seconds for 16 random frames of a video, and how many are other frames than those asked for.

    python bench/frames.py [--clip=FILE]

Four files of 300 frames of 640x360 pixels are written: H.264 with a keyframe every 12 and every 250
frames and with a varying frame rate, and VP9; `--clip` is one more file. All decode with one
thread, open the file for each clip and return RGB at full size, in turns. A frame is wrong if
another frame of the file is more similar to it than the one asked for, of those that PyAV decodes
from the first to the last. Packages that are not installed are left out.
"""

import argparse
import importlib.util
import pathlib
import statistics
import sys
import tempfile
import time

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from videos import write_video  # noqa: E402

COUNT, WANTED = 300, 16
# Mean absolute difference of two copies of a frame, at most, of 255.
SAME = 0.5
VARYING = np.cumsum(np.random.default_rng(0).integers(1, 9, COUNT)).tolist()
KINDS = {
    "H.264, keyframe every 12": ("gop12.mp4", dict(gop=12)),
    "H.264, keyframe every 250": ("gop250.mp4", dict(gop=250)),
    "H.264, varying frame rate": ("varying.mp4", dict(gop=50, rate=120, pts=VARYING)),
    "VP9": (
        "vp9.webm",
        dict(codec="libvpx-vp9", gop=128, options={"deadline": "realtime", "cpu-used": "6"}),
    ),
}


def ours_first(path: str, numbers: np.ndarray) -> np.ndarray:
    """Frames `[T, H, W, 3]` as in the first epoch."""
    from imgcls.data.decode import frame_index

    frame_index._known.clear()
    return ours_again(path, numbers)


def ours_again(path: str, numbers: np.ndarray) -> np.ndarray:
    """Frames as in the next epochs."""
    from imgcls.data.decode.video import EncodedVideo

    return EncodedVideo(pathlib.Path(path).read_bytes(), path).frames(numbers)


def opencv_seek(path: str, numbers: np.ndarray) -> np.ndarray:
    """Frames by OpenCV's position in frames; zeros if it returns none."""
    video = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = []
    for number in numbers:
        video.set(cv2.CAP_PROP_POS_FRAMES, int(number))
        found, frame = video.read()
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if found else None)
    blank = np.zeros_like(next(f for f in frames if f is not None))
    return np.stack([blank if f is None else f for f in frames])


def from_the_start(path: str, numbers: np.ndarray) -> np.ndarray:
    """Frames by decoding the file up to the last one."""
    import av

    found = {}
    with av.open(path) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in numbers:
                found[number] = frame.to_ndarray(format="rgb24")
            if number == numbers.max():
                break
    return np.stack([found[number] for number in numbers])


def torchcodec_exact(path: str, numbers: np.ndarray) -> np.ndarray:
    """Frames by torchcodec's index, its default."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1)
    return decoder.get_frames_at(numbers.tolist()).data.numpy()


def decord_batch(path: str, numbers: np.ndarray) -> np.ndarray:
    """Frames by decord's `get_batch`."""
    import decord

    return decord.VideoReader(path, num_threads=1).get_batch(numbers.tolist()).asnumpy()


READERS = {
    "imgcls": ours_first,
    "imgcls, next epochs": ours_again,
    "OpenCV, seek": opencv_seek,
    "from the start": from_the_start,
    "torchcodec": torchcodec_exact,
    "decord": decord_batch,
}


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """Small float32 `[T, 36, 64, 3]` to compare."""
    small = [cv2.resize(frame, (64, 36), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.float32(small)


def decode_all(path: str) -> np.ndarray:
    """The thumbnails of all frames, decoded by PyAV from the first to the last."""
    import av

    with av.open(path) as container:
        decoded = container.decode(container.streams.best("video"))
        return np.concatenate([thumbnails(f.to_ndarray(format="rgb24")[None]) for f in decoded])


def count_wrong(frames: np.ndarray, numbers: np.ndarray, expected: np.ndarray) -> int:
    """How many frames are more similar to another one than to the one asked for."""
    wrong = 0
    for frame, number in zip(thumbnails(frames), numbers, strict=True):
        apart = np.abs(expected - frame).mean((1, 2, 3))
        wrong += bool(apart[number] > apart.min() + SAME)
    return wrong


def measure(path: str, names: list[str], turns: int) -> list[str]:
    """Median seconds and the number of wrong frames of each reader, as the cells of a row."""
    expected, rng = decode_all(path), np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    wrong = dict.fromkeys(names, 0)
    for _ in range(turns):
        numbers = np.sort(rng.choice(len(expected), WANTED, replace=False))
        for name in names:
            start = time.perf_counter()
            frames = READERS[name](path, numbers)
            seconds[name].append(time.perf_counter() - start)
            wrong[name] += count_wrong(frames, numbers, expected)
    cells = []
    for name in names:
        share = f"; {wrong[name]} of {turns * WANTED} wrong" if wrong[name] else ""
        cells.append(f"{statistics.median(seconds[name]):.3f}{share}")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", action="append", default=[], help="another file to measure")
    parser.add_argument("--turns", type=int, default=10, help="clips of each reader and file")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    names = [n for n in READERS if n not in ("torchcodec", "decord") or _is_installed(n)]
    print(f"| seconds for {WANTED} frames | {' | '.join(names)} |")
    print(f"|---|{'---|' * len(names)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for kind, (name, options) in KINDS.items():
            write_video(f"{folder}/{name}", COUNT, **options)
            files[kind] = f"{folder}/{name}"
        files |= {pathlib.Path(clip).name: clip for clip in args.clip}
        for kind, path in files.items():
            for name in names:  # Imports, and the file's cache.
                READERS[name](path, np.arange(2))
            print(f"| {kind} | {' | '.join(measure(path, names, args.turns))} |", flush=True)


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


if __name__ == "__main__":
    main()
