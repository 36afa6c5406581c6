"""Frames of real videos are those that FFmpeg decodes from the first frame to the last."""

import concurrent.futures
import io
import pathlib
import shutil
import subprocess

import av
import numpy as np
import pytest

from imgcls.data.decode.video import EncodedVideo
from tests.data.videos import sequential

FILES = [
    "video_edge/h264_10bits.mp4",
    "video_edge/test_non_zero_start.mp4",
    "video_edge/testsrc2_odd_height_vp9.mp4",
    "video_real/mmaction2_demo_spatiotemporal_det.mp4",
    "video_real/mmaction2_test.avi",
    # Large, or long.
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "video_edge/bt709_full_range.mp4",
            "video_edge/nasa_13013.mp4",
            "video_edge/testsrc2_mpeg4.avi",
            "video_edge/testsrc2_vp8.webm",
            "video_real/mmaction2_S001C001P001R001A001_rgb.avi",
            "video_real/mmaction2_demo.mp4",
            "video_real/mmaction2_test.mp4",
        )
    ),
]


@pytest.fixture
def path(request, shared_data) -> pathlib.Path:
    return shared_data / request.param


@pytest.mark.parametrize("path", FILES, indirect=True)
def test_frames_in_any_order_are_those_of_a_sequential_decode(path):
    """All frames, once each: in a random order, and from four threads at once."""
    data = path.read_bytes()
    expected, clip = sequential(data), EncodedVideo(data, path.name)
    assert len(clip) == len(expected)
    order = np.random.default_rng(0).permutation(len(expected))
    wanted = np.array_split(order, -(-len(order) // 40))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for numbers, frames in zip(wanted, pool.map(clip.frames, wanted), strict=True):
            np.testing.assert_array_equal(frames, expected[numbers])
    for number in order[:3]:
        np.testing.assert_array_equal(clip.frames([number])[0], expected[number])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the command ffmpeg is not installed")
@pytest.mark.parametrize("path", FILES, indirect=True)
def test_frames_are_those_of_the_command_ffmpeg(path):
    """The command decodes with a build of its own. Its frames are compared before they are RGB."""
    data = path.read_bytes()
    clip, count = EncodedVideo(data, path.name), 0
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.best("video")
        command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", f"0:{stream.index}"]
        command += ["-fps_mode", "passthrough", "-c:v", "rawvideo", "-f", "nut", "-"]
        done = subprocess.run(command, capture_output=True, check=True)
        with av.open(io.BytesIO(done.stdout)) as raw:
            frames = zip(raw.decode(video=0), container.decode(stream), strict=True)
            for count, (expected, frame) in enumerate(frames, start=1):
                for plane, other in zip(expected.planes, frame.planes, strict=True):
                    np.testing.assert_array_equal(pixels(plane, frame), pixels(other, frame))
                if count % 10 == 1:
                    [ours] = clip.frames([count - 1])
                    np.testing.assert_array_equal(ours, frame.to_ndarray(format="rgb24"))
    assert count == len(clip)


def pixels(plane, frame) -> np.ndarray:
    """The bytes of a plane without the padding of its rows."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width * (2 if "10le" in frame.format.name else 1)]


def test_all_files_are_tested(shared_data):
    names = {str(getattr(file, "values", [file])[0]) for file in FILES}
    found = {f"{p.parent.name}/{p.name}" for p in shared_data.glob("video_*/*")}
    assert names == {name for name in found if not name.endswith(".txt")}
