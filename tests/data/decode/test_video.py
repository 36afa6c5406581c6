"""Frames of videos: every requested frame is the right one."""

import concurrent.futures
import io
import struct

import av
import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.decode import frame_index, video
from imgcls.data.decode.video import EncodedVideo
from tests.data.videos import number_in, numbered, numbered_video, sequential, write_video

X264 = "x264-params"
# Keyframes at the distance of `gop` alone.
SCENES = "scenecut=0"
HEVC = "log-level=none:pools=none:keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0:open-gop"
VFR = np.cumsum(np.random.default_rng(0).integers(1, 9, 60)).tolist()
GOOD = {"deadline": "good", "cpu-used": "5"}
# Arguments of `numbered_video`.
KINDS = {
    "h264": dict(gop=12, options={X264: f"{SCENES}:bframes=0"}),
    "h264 long GOP": dict(gop=250, options={X264: f"{SCENES}:bframes=3"}),
    "h264 B-frames": dict(gop=12, options={X264: f"{SCENES}:bframes=3:b-adapt=0"}),
    "h264 open GOP": dict(
        gop=12, options={X264: f"{SCENES}:bframes=3:b-adapt=0:open-gop=1:min-keyint=12"}
    ),
    "h264 without keyframes": dict(
        gop=12, options={X264: f"{SCENES}:intra-refresh=1:bframes=0:keyint=12"}
    ),
    "h264 interlaced": dict(gop=12, options={X264: f"{SCENES}:tff=1:bframes=2"}),
    "h264 varying rate": dict(gop=12, pts=VFR, rate=90, options={X264: SCENES}),
    "h264 late start": dict(gop=12, pts=range(1000, 1060), options={X264: SCENES}),
    "h264 fragments": dict(gop=12, flags={"movflags": "frag_keyframe+empty_moov"}),
    "h264 mkv": dict(container="matroska", gop=12, options={X264: SCENES}),
    "h264 mov": dict(container="mov", gop=12, options={X264: SCENES}),
    "h264 avi": dict(container="avi", gop=12, options={X264: f"{SCENES}:bframes=3"}),
    "hevc": dict(codec="libx265", gop=12, options={"x265-params": f"{HEVC}=0"}),
    "hevc open GOP": dict(codec="libx265", gop=12, options={"x265-params": f"{HEVC}=1"}),
    "mpeg4": dict(codec="mpeg4", gop=12),
    "mpeg4 avi": dict(container="avi", codec="mpeg4", gop=12),
    "mpeg4 B-frames avi": dict(container="avi", codec="mpeg4", gop=12, options={"bf": "2"}),
    "mpeg2": dict(container="mpeg", codec="mpeg2video", gop=12, options={"bf": "2"}),
    "vp9": dict(container="webm", codec="libvpx-vp9", gop=12, options=GOOD),
    "vp8": dict(container="webm", codec="libvpx", gop=12, options=GOOD),
    "mjpeg": dict(container="avi", codec="mjpeg", pixels="yuvj420p"),
    "gif": dict(container="gif", codec="gif", pixels="rgb8"),
    "10 bits": dict(gop=12, pixels="yuv420p10le", options={X264: SCENES}),
    "odd size": dict(gop=12, size=(63, 95), pixels="yuv444p", options={X264: SCENES}),
    "alpha": dict(container="mov", codec="prores_ks", pixels="yuva444p10le"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_the_right_one(kind, monkeypatch):
    data = numbered_video(60, **KINDS[kind])
    expected, clip = sequential(data), EncodedVideo(data, "clip")
    assert len(clip) == len(expected) == 60
    assert [number_in(frame) for frame in clip.frames(range(60))] == list(range(60))
    assert len(clip._index.keys) >= (4 if KINDS[kind].get("gop") == 12 else 1)
    if kind != "h264 without keyframes":
        monkeypatch.setattr(video, "decode_index", None)  # Frames are found at the first attempt.
    for number in range(0, 60, 5):
        np.testing.assert_array_equal(clip.frames([number])[0], expected[number])
    rng = np.random.default_rng(0)
    for _ in range(5):
        numbers = rng.integers(60, size=7)
        np.testing.assert_array_equal(clip.frames(numbers), expected[numbers])


@pytest.mark.parametrize("kind", ["h264 B-frames", "h264 open GOP", "vp9"])
def test_only_groups_with_wanted_frames_are_decoded(kind, monkeypatch):
    clip = EncodedVideo(numbered_video(60, **KINDS[kind]), "clip")
    decoded = []
    decode = video._decode_packet
    monkeypatch.setattr(
        video, "_decode_packet", lambda *args: decoded.append(args[2]) or decode(*args)
    )
    clip.frames([17, 18, 54])
    # Decoders return frames some packets later, and groups that are open begin some before.
    assert not set(decoded) & {*range(8), *range(34, 44)} and len(decoded) < 40


@pytest.mark.parametrize("kind", ["h264 B-frames", "h264 avi", "h264 interlaced"])
def test_frames_that_no_other_one_needs_are_not_decoded(kind, monkeypatch):
    data = numbered_video(60, **KINDS[kind])
    expected, clip = sequential(data), EncodedVideo(data, "clip")
    unused = int(clip._index.unused.sum())
    assert 12 < unused < 45
    decoded = []
    decode = video._decode_packet
    monkeypatch.setattr(
        video, "_decode_packet", lambda *args: decoded.append(args[2]) or decode(*args)
    )
    monkeypatch.setattr(video, "decode_index", None)
    for first in range(8):
        decoded.clear()
        numbers = np.arange(first, 60, 8)
        np.testing.assert_array_equal(clip.frames(numbers), expected[numbers])
        assert len(decoded) <= 61 - unused + len(numbers)


def test_a_file_in_memory_is_indexed_once(monkeypatch):
    data = numbered_video(20, gop=12)
    clip = EncodedVideo(data, "clip")
    assert len(clip) == 20
    monkeypatch.setattr(frame_index, "_read_index", None)
    assert [number_in(f) for f in EncodedVideo(bytes(bytearray(data)), "again").frames([7])] == [7]
    with pytest.raises(TypeError):
        len(EncodedVideo(data + b"\0", "other"))


def test_frames_are_the_same_from_several_threads_at_once():
    clip = EncodedVideo(numbered_video(60, gop=12), "clip")
    rng = np.random.default_rng(0)
    wanted = [rng.integers(60, size=6) for _ in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        clips = list(pool.map(clip.frames, wanted))
    for numbers, frames in zip(wanted, clips, strict=True):
        assert [number_in(frame) for frame in frames] == numbers.tolist()


def test_times_are_those_of_the_file():
    clip = EncodedVideo(numbered_video(60, gop=12, pts=VFR, rate=90), "clip")
    np.testing.assert_allclose(clip.times, (np.array(VFR) - VFR[0]) / 90, atol=1e-4)
    late = EncodedVideo(numbered_video(10, pts=range(1000, 1010)), "late")
    np.testing.assert_allclose(late.times, np.arange(10) / 25, atol=1e-6)
    assert EncodedVideo(numbered_video(1), "one").times.tolist() == [0]
    avi = numbered_video(20, "avi", "mpeg4", options={"bf": "2"})
    np.testing.assert_allclose(EncodedVideo(avi, "avi").times, np.arange(20) / 25)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    ],
)
def test_frames_are_upright(matrix, turn):
    a, b, c, d = (value << 16 for value in matrix)
    stored = [numbered(n) for n in (5, 99, 201)]
    data = write_video(stored, matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    plain = EncodedVideo(write_video(stored), "plain").frames(range(3))
    frames = EncodedVideo(data, "turned").frames(range(3))
    np.testing.assert_array_equal(frames, np.stack([turn(frame) for frame in plain]))
    small = EncodedVideo(data, "turned").frames([1], size=32)
    assert min(small.shape[1:3]) == 32 and small.shape[1:3] == turn(np.zeros((32, 48))).shape


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_colors_are_those_of_the_matrix_and_range(matrix, full):
    """Compared with the equations of BT.709 and BT.601 in floating point."""
    y, cb, cr = 120, 90, 180
    parameters = f"colormatrix={matrix}:range={'pc' if full else 'tv'}:qp=0"
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25, options={X264: parameters})
        stream.height = stream.width = 32
        stream.pix_fmt = "yuvj420p" if full else "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame(32, 32, stream.pix_fmt)
            for plane, value in zip(frame.planes, (y, cb, cr), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    kr, kb = (0.2126, 0.0722) if matrix == "bt709" else (0.299, 0.114)
    luma = y / 255 if full else (y - 16) / 219
    pb, pr = ((c - 128) / (255 if full else 224) for c in (cb, cr))
    red, blue = luma + 2 * (1 - kr) * pr, luma + 2 * (1 - kb) * pb
    expected = 255 * np.array([red, (luma - kr * red - kb * blue) / (1 - kr - kb), blue])
    pixel = EncodedVideo(data.getvalue(), "clip").frames([1])[0, 16, 16]
    np.testing.assert_allclose(pixel, expected, atol=2)


def test_channels():
    data = numbered_video(5, gop=12)
    gray, color, alpha = (
        EncodedVideo(data, "clip", channels=channels).frames([3])[0] for channels in (1, 3, 4)
    )
    assert gray.shape == (64, 96, 1) and alpha.shape == (64, 96, 4)
    np.testing.assert_array_equal(alpha[..., :3], color)
    assert (alpha[..., 3] == 255).all()
    np.testing.assert_allclose(gray[..., 0], color.mean(-1), atol=3)
    with pytest.raises(ConfigError, match="data.channels=2: videos have 1"):
        EncodedVideo(data, "clip", channels=2)


def test_frames_are_scaled_when_they_are_decoded():
    clip = EncodedVideo(numbered_video(20, size=(128, 192)), "clip")
    assert clip.frames([7], size=32).shape == (1, 32, 48, 3)
    frames = clip.frames([7, 3], size=(40, 50))
    assert frames.shape == (2, 40, 50, 3)
    assert [number_in(frame) for frame in frames] == [7, 3]
    # Antialiased: the mean of a fine pattern, not samples of it.
    pattern = np.zeros((128, 128, 3), np.uint8)
    pattern[:, ::2] = 200
    data = write_video([pattern], options={"qp": "0"}, pixels="yuv444p")
    small = EncodedVideo(data, "pattern").frames([0], size=16)
    np.testing.assert_allclose(small[0, 1:-1, 1:-1], 100, atol=8)


def test_a_segment_counts_from_its_start():
    data = numbered_video(50, gop=12)  # 25 frames per second
    clip = EncodedVideo(data, "clip", start=0.4, end=1.0)
    assert len(clip) == 15
    assert [number_in(frame) for frame in clip.frames([0, 14])] == [10, 24]
    np.testing.assert_allclose(clip.times, np.arange(15) / 25, atol=1e-6)


@pytest.mark.parametrize("first", [0, 5, 17])
def test_an_edit_list_hides_the_start(first, monkeypatch):
    data = numbered_video(60, gop=12, options={X264: f"{SCENES}:bframes=2:b-adapt=0"})
    at = data.index(b"elst") + 12  # Duration in ms, and the time in the media at which it starts.
    duration, start = struct.unpack(">2I", data[at : at + 8])
    edit = struct.pack(">2I", duration - 40 * first, start + 512 * first)
    data = data[:at] + edit + data[at + 8 :]
    clip, expected = EncodedVideo(data, "clip"), sequential(data)
    monkeypatch.setattr(video, "decode_index", None)
    assert [number_in(frame) for frame in expected] == list(range(first, 60))
    np.testing.assert_array_equal(clip.frames(range(len(clip))), expected)
    for number in range(0, len(clip), 6):
        np.testing.assert_array_equal(clip.frames([number])[0], expected[number])
    np.testing.assert_allclose(clip.times, np.arange(60 - first) / 25, atol=1e-6)


def hide(data: bytes, hidden: int) -> bytes:
    """A video of VP8 without one of its frames, to which others still refer."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format="webm") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.dts is None:
                continue
            content = bytearray(bytes(packet))
            if number == hidden:
                content[0] &= ~0x10
            changed = av.Packet(bytes(content))
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.is_keyframe, changed.stream = packet.is_keyframe, stream
            target.mux(changed)
    return out.getvalue()


@pytest.mark.parametrize("noticed", [True, False])
def test_packets_without_a_frame_are_not_counted(noticed, monkeypatch):
    """If the packet did not say so, the frames that are shown at its times would be found."""
    data = hide(numbered_video(40, "webm", "libvpx", gop=200, options=GOOD), 7)
    expected = sequential(data)
    shown = [n for n in range(40) if n != 7]
    assert [number_in(frame) for frame in expected] == shown
    if noticed:
        monkeypatch.setattr(video, "decode_index", None)
    else:
        monkeypatch.setattr(frame_index, "_is_hidden", lambda packet, stream: False)
    clip = EncodedVideo(data, "clip")
    assert len(clip) == (39 if noticed else 40)
    wanted = [6, 7, 20] if noticed else [6, 8, 21]
    found = [number_in(frame) for frame in clip.frames(wanted)]
    assert found == [6, 8, 21]
