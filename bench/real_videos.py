"""Two small tasks from a few unlabeled videos: which video, and forward or backward in time.

    python bench/real_videos.py --videos=FOLDER --out=/tmp/windows

`OUT/which.csv`: the class of a window of half a second is its video. Windows of a split overlap;
the splits are parts of each video, one after the other, so no two of them share a frame.

`OUT/order.csv`: windows of 16 frames, each as it is and backward, both written losslessly in the
same way, so that only the order differs. All windows of a video are in one split: the video with
the most frames is for testing, the next one for validation.
"""

import argparse
import csv
import pathlib
import shutil
import sys
from collections.abc import Iterator

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from imgcls.data.decode.containers import VIDEO_EXTENSIONS  # noqa: E402
from imgcls.data.decode.video import EncodedVideo  # noqa: E402

# Part of each video, from and to, and the number of its windows.
SPLITS = {"train": (0.0, 0.6, 24), "val": (0.6, 0.8, 6), "test": (0.8, 1.0, 8)}
SECONDS, FRAMES, STEP, SIZE = 0.5, 16, 4, 80


def which(videos: list[pathlib.Path]) -> Iterator[tuple]:
    """Rows of the task "which video", whose paths are relative to the manifest."""
    for path in videos:
        times = EncodedVideo(path, path.name).times
        if times is None or times[-1] < 5 * SECONDS:
            raise SystemExit(f"error: {path}: is shorter than {5 * SECONDS} seconds")
        length = times[-1] + times[1]
        for split, (first, last, count) in SPLITS.items():
            for start in np.linspace(first * length, last * length - SECONDS, count):
                end = start + SECONDS
                yield f"videos/{path.name}", path.name, split, f"{start:.3f}", f"{end:.3f}"


def order(videos: list[pathlib.Path], folder: pathlib.Path) -> Iterator[tuple]:
    """Writes the windows of the task "forward or backward" and yields their rows."""
    ranked = sorted(videos, key=lambda path: len(EncodedVideo(path, path.name)))
    for path in videos:
        split = {ranked[-1]: "test", ranked[-2]: "val"}.get(path, "train")
        video = EncodedVideo(path, path.name)
        starts = range(0, len(video) - FRAMES + 1, STEP)
        windows = [np.arange(start, start + FRAMES) for start in starts]
        for start, clip in zip(starts, video.clips(windows, SIZE), strict=True):
            for label, frames in (("forward", clip), ("backward", clip[::-1])):
                name = f"windows/{path.name}_{start:04d}_{label}.mkv"
                write_lossless(folder / name, frames)
                yield name, label, split, path.name


def write_lossless(path: pathlib.Path, frames: np.ndarray) -> None:
    """Writes uint8 `[T, H, W, 3]` as FFV1, from which the same pixels are decoded."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=30)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            output.mux(stream.encode(frame.reformat(format="bgr0")))
        output.mux(stream.encode(None))


def write_rows(path: pathlib.Path, columns: str, rows: Iterator[tuple]) -> None:
    """Writes a manifest, and prints how many examples it has."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns.split(","))
        kept = list(rows)
        writer.writerows(kept)
    print(f"{path}: {len(kept)} windows")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", required=True, type=pathlib.Path, help="directory of videos")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="directory to make")
    args = parser.parse_args()
    found = sorted(p for p in args.videos.iterdir() if p.suffix.lower() in VIDEO_EXTENSIONS)
    if len(found) < 3:
        raise SystemExit(f"error: --videos={args.videos}: has {len(found)} videos, not 3 or more")
    for name in ("videos", "windows"):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    videos = [pathlib.Path(shutil.copyfile(p, args.out / "videos" / p.name)) for p in found]
    write_rows(args.out / "which.csv", "path,label,split,start,end", which(videos))
    write_rows(args.out / "order.csv", "path,label,split,group", order(videos, args.out))


if __name__ == "__main__":
    main()
