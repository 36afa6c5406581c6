"""Truncated, corrupted and hostile videos: an error of one line that names the file, or skipped."""

import pathlib
import struct
import time

import numpy as np
import pytest

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode import containers, frame_index, packets
from imgcls.data.decode.video import EncodedVideo
from imgcls.data.loading.reader import Reader
from imgcls.data.sources.open import open_dataset
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS
from tests.data.videos import numbered_video

FRAMES = 30
GOOD = "good"


@pytest.fixture(scope="module")
def good() -> dict[str, bytes]:
    """One video of each container."""
    fast = {"deadline": "realtime", "cpu-used": "8"}
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    return {
        "mp4": numbered_video(FRAMES, gop=12, options={"x264-params": "scenecut=0:bframes=2"}),
        "fragments": numbered_video(FRAMES, gop=12, flags=fragments),
        "webm": numbered_video(FRAMES, "webm", "libvpx-vp9", gop=12, options=fast),
        "avi": numbered_video(FRAMES, "avi", "mpeg4", gop=12),
        "mpg": numbered_video(FRAMES, "mpeg", "mpeg2video", gop=12),
        "gif": numbered_video(FRAMES, "gif", "gif", pixels="rgb8"),
    }


def cut(data: bytes, fraction: float) -> bytes:
    return data[: int(len(data) * fraction)]


def patch(data: bytes, box: bytes, offset: int, *values: int) -> bytes:
    """Replaces integers of 32 bits after the start of a box."""
    at = data.index(box) + len(box) + offset
    content = struct.pack(f">{len(values)}I", *values)
    return data[:at] + content + data[at + len(content) :]


def flip(data: bytes, first: float, seed: int) -> bytes:
    """Flips 40 bits after a fraction of the file."""
    changed, rng = bytearray(data), np.random.default_rng(seed)
    for at in rng.integers(int(first * len(data)), len(data), 40):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def damage(data: bytes) -> bytes:
    """Replaces the middle of a file, which FFmpeg would skip without a message."""
    first, last = (int(len(data) * fraction) for fraction in (0.4, 0.7))
    return data[:first] + np.random.default_rng(0).bytes(last - first) + data[last:]


def flip_frames(data: bytes) -> bytes:
    """Flips bits in the frames of an MP4, not in its header."""
    start = data.index(b"mdat") + 100
    end = data.index(b"moov") - 4
    return data[:start] + flip(data[start:end], 0, 1) + data[end:]


def gif_size(data: bytes, width: int, height: int) -> bytes:
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


# What is done to which file, and the message; GOOD if the file is readable.
BROKEN = {
    "empty": ("mp4", lambda d: b"", "empty file"),
    "zeros": ("mp4", lambda d: bytes(9999), "not a video in one of MP4"),
    "text": ("mp4", lambda d: b"no video\n" * 99, "not a video in one of MP4"),
    "picture": ("mp4", lambda d: b"\xff\xd8\xff\xe0" + bytes(99), "not a video in one of MP4"),
    "playlist": ("mp4", lambda d: b"#EXTM3U\n#EXTINF:5,\nfile:///etc/passwd\n", "not a video"),
    "concat": ("mp4", lambda d: b"ffconcat version 1.0\nfile /etc/passwd\n", "not a video"),
    "wrong extension": ("avi", lambda d: d, GOOD),
    "mp4 cut in its first box": ("mp4", lambda d: d[:20], "truncated"),
    "mp4 cut at a third": ("mp4", lambda d: cut(d, 0.3), "truncated"),
    "mp4 cut in its index": ("mp4", lambda d: cut(d, 0.95), "truncated"),
    "mp4 without index": ("mp4", lambda d: d[: d.index(b"moov") - 4], "has no index"),
    "mp4 of noise": ("mp4", lambda d: d[:32] + np.random.default_rng(0).bytes(9999), "truncated"),
    "mp4 with broken frames": ("mp4", flip_frames, "corrupted video"),
    "mp4 with a frame that is missing": ("mp4", lambda d: patch(d, b"stco", 8, 2**30), "no frames"),
    "mp4 that states a billion frames": (
        *("mp4", lambda d: patch(d, b"stsz", 4, 1, 10**9), "more than the 1,048,576 frames"),
    ),
    "mp4 that repeats a frame": (
        *("mp4", lambda d: patch(d, b"stts", 8, 10**9), "more than the 1,048,576 frames"),
    ),
    "mp4 of many edits": ("mp4", lambda d: patch(d, b"elst", 4, 10**9), "more than the 1,048,576"),
    "fragments cut": ("fragments", lambda d: cut(d, 0.6), "truncated"),
    "fragments of a billion frames": (
        *("fragments", lambda d: patch(d, b"trun", 4, 10**9), "more than the 1,048,576"),
    ),
    "webm cut": ("webm", lambda d: cut(d, 0.6), "truncated"),
    "webm cut in its header": ("webm", lambda d: d[:40], "corrupted or truncated"),
    "webm with a damaged part": ("webm", lambda d: damage(d), "corrupted or truncated after byte"),
    "avi with a damaged part": ("avi", lambda d: damage(d), "corrupted or truncated after byte"),
    "mpg with a damaged part": ("mpg", lambda d: damage(d), "corrupted or truncated after byte"),
    "gif with a damaged part": ("gif", lambda d: damage(d), "corrupted or truncated after byte"),
    "mpg cut": ("mpg", lambda d: d[:-3000], "corrupted or truncated after byte"),
    "avi cut": ("avi", lambda d: cut(d, 0.6), "truncated"),
    "avi cut in its header": ("avi", lambda d: d[:12], "truncated"),
    "avi with flipped bits": ("avi", lambda d: flip(d, 0.3, 0), "corrupted video"),
    "mpg cut in its header": ("mpg", lambda d: d[:30], "corrupted or truncated"),
    "mpg with flipped bits": ("mpg", lambda d: flip(d, 0.3, 0), "corrupted video"),
    "gif cut": ("gif", lambda d: cut(d, 0.6), "corrupted or truncated"),
    "gif of 4 billion pixels": ("gif", lambda d: gif_size(d, 65535, 65535), "too many pixels"),
    "gif of 256 million pixels": ("gif", lambda d: gif_size(d, 16000, 16000), "too many pixels"),
    "gif without frames": ("gif", lambda d: d[: d.index(b"\x21\xf9")] + b"\x3b", "has no frames"),
    "sound alone": ("mp4", lambda d: sound(), "has no video, only audio"),
}


def sound() -> bytes:
    import io

    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def memory_peak() -> int:
    """Largest resident memory in bytes since the last reset."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize("name", BROKEN)
def test_each_is_one_line_in_little_time_and_memory(name, good):
    kind, change, message = BROKEN[name]
    data = change(good[kind])
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # Resets the peak.
    before, start = memory_peak(), time.process_time()
    clip = EncodedVideo(data, "clip.mp4")
    if message == GOOD:
        assert len(clip) == FRAMES and len(clip.frames(range(FRAMES))) == FRAMES
    else:
        with pytest.raises(DataError, match=message) as error:
            clip.frames(range(len(clip)))
        text = str(error.value)
        assert text.startswith("clip.mp4: ") and "\n" not in text and len(text) < 200
    assert memory_peak() - before < 100e6
    assert time.process_time() - start < 10


@pytest.fixture(scope="module")
def folder(good, tmp_path_factory):
    """All broken files and four good ones, in one class."""
    root = tmp_path_factory.mktemp("broken")
    (root / "train" / "a").mkdir(parents=True)
    for number, (kind, change, _) in enumerate(BROKEN.values()):
        (root / "train" / "a" / f"{number:02d}.mp4").write_bytes(change(good[kind]))
    for number in range(90, 94):
        (root / "train" / "a" / f"{number}.mp4").write_bytes(good["mp4"])
    return root


def read(folder, on_error: str, train: bool) -> list[dict]:
    source = open_dataset(f"folder:{folder}", videos=True).open("train")
    recipe = f"sample_frames({FRAMES})"
    reader = Reader(source, spec.parse(recipe, TRANSFORMS, "x"), 0, train, on_error)
    return [reader.example(position) for position in range(len(source))]


def test_skipped_files_are_counted(folder, capsys):
    broken = sum(message != GOOD for _, _, message in BROKEN.values())
    examples = read(folder, "skip", train=False)
    assert len(examples) == len(BROKEN) + 4
    assert sum(example["mask"] == 0 for example in examples) == broken
    assert sum(int(example["skipped"]) for example in examples) == broken
    named = [line for line in capsys.readouterr().err.splitlines() if "unreadable record" in line]
    assert len(named) == broken
    # In training the next readable file takes the place of a broken one.
    trained = read(folder, "skip", train=True)
    assert all(example["mask"] == 1 for example in trained)
    readable = {number for number, e in enumerate(examples) if e["mask"]}
    assert {int(example["index"]) for example in trained} <= readable
    assert sum(int(example["skipped"]) > 0 for example in trained) == broken


def test_an_error_names_the_first_file(folder):
    with pytest.raises(DataError, match="train/a/00.mp4: empty file"):
        read(folder, "fail", train=False)


def test_other_files_are_never_opened(good, tmp_path, monkeypatch):
    """Also if FFmpeg were told that a file is a playlist."""
    (tmp_path / "other.ts").write_bytes(good["mpg"])
    playlist = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/other.ts\n#EXT-X-ENDLIST\n"
    )
    monkeypatch.setattr(packets, "find_container", lambda start: "hls")
    monkeypatch.setattr(packets, "check_container", lambda *args: None)
    with pytest.raises(DataError, match="clip.mp4: refers to another file, which is never opened"):
        len(EncodedVideo(playlist.encode(), "clip.mp4"))


def test_too_many_frames_and_too_large_clips_are_refused(good, monkeypatch):
    monkeypatch.setattr(packets, "MAX_FRAMES", 20)
    with pytest.raises(DataError, match="clip.mp4: has more than the 20 frames allowed"):
        len(EncodedVideo(good["webm"], "clip.mp4"))
    monkeypatch.setattr(packets, "MAX_FRAMES", 2**20)
    monkeypatch.setattr("imgcls.data.decode.clips.MAX_CLIP", 10**5)
    with pytest.raises(DataError, match="30 frames of 96 x 64 pixels are more than"):
        EncodedVideo(good["mp4"], "clip.mp4").frames(range(30))
    assert EncodedVideo(good["mp4"], "clip.mp4").frames(range(30), size=16).shape[1] == 16


def test_real_headers_pass_the_checks(good):
    for kind, data in good.items():
        found = containers.find_container(data)
        assert found is not None, kind
        containers.check_container(data, found, kind)


def test_without_pyav_a_line_says_what_to_install(good, monkeypatch):
    monkeypatch.setattr(frame_index, "_known", {})
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ConfigError, match="clip.mp4: is read by PyAV: run `pip install -r require"):
        len(EncodedVideo(good["mp4"], "clip.mp4"))
