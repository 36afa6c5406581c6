"""Compares inputs of clips: videos to batches of uint8, in clips/s on this machine's CPU.

    python bench/video.py --videos=FOLDER [--size=128]

A clip is 16 frames at a distance of 4 from a random start, scaled to a shorter side of `--size` and
cropped in the center, of the same files for all. imgcls reads with its training loader and a thread
per core; the others with a torch DataLoader and a worker per core, each with one decoding thread.
PyTorchVideo cuts clips by seconds and scales decoded frames, the others while they decode.
"""

import argparse
import os
import pathlib
import tempfile

import numpy as np
import rounds
from videos import link_videos

BATCH, FRAMES, STRIDE, CORES = 8, 16, 4, os.cpu_count() or 1
NAMES = ["imgcls", "torchcodec", "torchcodec, approximate", "decord", "PyTorchVideo, PyAV"]


def ours(folder: str, size: int):
    """Yields our training batches, on the device."""
    import jax

    from imgcls.core.defaults import default_config
    from imgcls.data import create as data_lib
    from imgcls.distributed import sharding

    config = default_config()
    config.batch_size = BATCH
    config.data.source = f"folder:{folder}"
    config.data.threads = CORES
    sample = f"sample_frames({FRAMES}, stride={STRIDE}, size={size})|center_crop({size})"
    config.data.train_transform = config.data.eval_transform = sample
    source, mesh = data_lib.open_split(config, "train"), sharding.create_mesh(config)
    reader = data_lib.create_reader(config, source, train=True)
    for batch in data_lib.create_train_loader(config, reader, mesh, 0, 1_000_000):
        yield jax.block_until_ready(batch)["image"]


def draw(count: int) -> list[int]:
    """Numbers of the frames of a clip from a random start, `[T]`; a short video starts again."""
    start = np.random.randint(max(0, count - 1 - (FRAMES - 1) * STRIDE) + 1)
    return ((start + STRIDE * np.arange(FRAMES)) % count).tolist()


def scaled(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width for a shorter side of `size`."""
    shorter = min(height, width)
    return round(height * size / shorter), round(width * size / shorter)


def crop(clip, size: int):
    """The center of frames `[T, H, W, C]`."""
    top, left = (clip.shape[1] - size) // 2, (clip.shape[2] - size) // 2
    return clip[:, top : top + size, left : left + size]


def read_torchcodec(path: str, size: int, seek_mode: str = "exact"):
    """A clip uint8 `[T, H, W, C]`."""
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    probe = VideoDecoder(path, num_ffmpeg_threads=1, seek_mode="approximate").metadata
    decoder = VideoDecoder(
        path,
        dimension_order="NHWC",
        num_ffmpeg_threads=1,
        seek_mode=seek_mode,
        transforms=[Resize(scaled(probe.height, probe.width, size))],
    )
    return crop(decoder.get_frames_at(draw(len(decoder))).data, size)


def read_decord(path: str, size: int):
    """A clip uint8 `[T, H, W, C]`."""
    import av
    import decord
    import torch

    # decord would decode a frame to say how large frames are.
    with av.open(path) as container:
        stream = container.streams.best("video")
        height, width = scaled(stream.height, stream.width, size)
    reader = decord.VideoReader(path, width=width, height=height, num_threads=1)
    return crop(torch.from_numpy(reader.get_batch(draw(len(reader))).asnumpy()), size)


def read_pytorchvideo(path: str, size: int):
    """A clip uint8 `[T, H, W, C]`."""
    import av
    import torch
    from pytorchvideo.data.encoded_video import EncodedVideo

    with av.open(path) as container:
        rate = float(container.streams.best("video").average_rate)
    seconds = FRAMES * STRIDE / rate
    video = EncodedVideo.from_path(path, decode_audio=False, decoder="pyav")
    start = np.random.uniform(0, max(0.0, float(video.duration) - seconds))
    frames = video.get_clip(start, start + seconds)["video"]
    frames = frames[:, torch.linspace(0, frames.shape[1] - 1, FRAMES).long()]
    sides = scaled(*frames.shape[2:], size)
    small = torch.nn.functional.interpolate(frames, sides, mode="bilinear")
    return crop(small.byte().permute(1, 2, 3, 0), size)


class Clips:
    """The files of a folder as a dataset of torch.

    Args:
      read: reads a clip by path and size.
      folder: directory with `train/video/*`.
      size: side of the frames.
    """

    def __init__(self, read, folder: str, size: int):
        self._read, self._size = read, size
        self._files = sorted(str(p) for p in pathlib.Path(folder, "train/video").iterdir())

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int):
        return self._read(self._files[index], self._size)


def seed_worker(number: int) -> None:
    """Seeds NumPy in a worker of a DataLoader."""
    np.random.seed(number)


def torch_batches(read, folder: str, size: int):
    """Yields batches of a DataLoader endlessly."""
    import torch

    loader = torch.utils.data.DataLoader(
        Clips(read, folder, size),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=CORES,
        worker_init_fn=seed_worker,
        persistent_workers=True,
    )
    while True:
        yield from loader


def approximate(path: str, size: int):
    """See `read_torchcodec`; frames are found by the average frame rate."""
    return read_torchcodec(path, size, "approximate")


def create(name: str, folder: str, size: int):
    """Returns the batches of a contestant."""
    if name == "imgcls":
        return ours(folder, size)
    readers = [read_torchcodec, approximate, read_decord, read_pytorchvideo]
    return torch_batches(dict(zip(NAMES[1:], readers, strict=True))[name], folder, size)


def main() -> None:
    parser = rounds.create_parser(__doc__)
    parser.add_argument("--videos", required=True, help="directory of videos")
    parser.add_argument("--size", type=int, default=128, help="shorter side of the frames")
    parser.add_argument("--many", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        batches = create(args.child, args.many, args.size)
        measure = rounds.batches_per_second
        rounds.serve(lambda: measure(batches, BATCH, args.seconds))
        return
    with tempfile.TemporaryDirectory() as work:
        many = link_videos(args.videos, f"{work}/many", 64 * BATCH)
        title = f"clips of {FRAMES} frames, shorter side {args.size}"
        rounds.compare(title, NAMES, args.rounds, f"--many={many}", unit="clips/s")


if __name__ == "__main__":
    main()
