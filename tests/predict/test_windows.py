"""Windows of videos: the frames of each, and memory that does not depend on their number."""

import gc
import pathlib

import numpy as np
import pytest

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode import video as video_module
from imgcls.data.decode.video import EncodedVideo
from imgcls.predict.windows import read_windows
from tests.data.videos import number_in, numbered, numbered_video, write_video


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """100 frames, 25 per second: 4 seconds."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    path.write_bytes(numbered_video(100, gop=12))
    return path


def windows(path, every: float, transform: str) -> list[tuple[float, float, list]]:
    config = default_config()
    config.data.eval_transform = transform
    numbers = np.vectorize(number_in, signature="(h,w,c)->()")
    return [
        (round(w.start, 6), round(w.end, 6), numbers(w.clip).tolist())
        for w in read_windows(str(path), every, config, 3)
    ]


def test_windows_are_parts_of_the_video(file):
    found = windows(file, 1.0, "sample_frames(4, stride=5)")
    # 20 frames in the middle of 25.
    assert [w[:2] for w in found] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [w[2] for w in found] == [[s, s + 5, s + 10, s + 15] for s in (4, 29, 54, 79)]
    # As parts that are cut by their times.
    for start, end, numbers in found:
        part = EncodedVideo(file.read_bytes(), "part", start=start, end=end)
        assert [number_in(f) for f in part.frames([4, 9, 14, 19])] == numbers


def test_a_short_window_has_frames_around_it(file):
    found = windows(file, 0.4, "sample_frames(4, stride=10)")
    assert len(found) == 10 and found[-1][:2] == (3.6, 4)
    numbers = [w[2] for w in found]
    assert numbers[5] == [39, 49, 59, 69]  # 31 in the middle of 35 to 74
    assert numbers[0] == [4, 14, 24, 34] and numbers[-1] == [64, 74, 84, 94]
    by_time = [w[2] for w in windows(file, 0.4, "sample_frames(4, fps=2.5)")]
    assert by_time[5] == pytest.approx([40, 50, 60, 70], abs=1)
    segments = [w[2] for w in windows(file, 0.4, "sample_segments(2)")]
    assert segments == [[s + 2, s + 7] for s in range(0, 100, 10)]


def test_the_last_window_is_shorter_and_several_clips_are_kept(file):
    found = windows(file, 1.5, "sample_frames(2, clips=3)")
    assert [w[:2] for w in found] == [(0, 1.5), (1.5, 3), (3, 4)]
    assert np.shape(found[0][2]) == (3, 2) and found[2][2] == [[75, 76], [86, 87], [98, 99]]


def test_windows_without_a_new_frame_show_the_last_one(tmp_path):
    path = tmp_path / "slow.mp4"
    path.write_bytes(write_video([numbered(n) for n in range(3)], pts=[0, 100, 200], rate=25))
    found = windows(path, 1.0, "sample_frames(1)")
    assert [w[2] for w in found[:9]] == [[0]] * 4 + [[1]] * 4 + [[2]]


@pytest.mark.parametrize("codec", [("avi", "mpeg4", {"bf": "2"}), ("mp4", "libx264", {})])
def test_a_wrong_index_does_not_matter(codec, tmp_path, monkeypatch):
    container, name, options = codec
    path = tmp_path / "clip"
    path.write_bytes(numbered_video(60, container, name, gop=12, options=options))
    expected = windows(path, 0.5, "sample_frames(3, stride=2)")
    find, calls = video_module._find, []

    def fail_once(stream, index, wanted, name):
        calls.append(len(wanted))
        for number, frame in find(stream, index, wanted, name):
            if len(calls) == 1 and number > 30:
                raise video_module._WrongIndexError("frame 31 is missing")
            yield number, frame

    monkeypatch.setattr(video_module, "_find", fail_once)
    assert windows(path, 0.5, "sample_frames(3, stride=2)") == expected
    assert len(calls) == 2 and calls[1] < calls[0]


def test_broken_files_and_folders_of_frames(tmp_path, file):
    (tmp_path / "cut.mp4").write_bytes(file.read_bytes()[:900])
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name, message in (("cut", "truncated"), ("empty", "empty file"), ("none", "can't be read")):
        with pytest.raises(DataError, match=f"{name}.mp4: {message}"):
            windows(tmp_path / f"{name}.mp4", 1, "sample_frames(2)")
    with pytest.raises(ConfigError, match="is a folder of frames, whose times are not known"):
        windows(tmp_path, 1, "sample_frames(2)")


def test_memory_does_not_grow_with_the_length(tmp_path):
    """600 frames of 256x256 pixels are 118 MB, and a window of 12 is 2 MB."""
    path = tmp_path / "long.mp4"
    frame = numbered(3, 256, 256)
    fast = {"preset": "ultrafast"}
    path.write_bytes(write_video([frame] * 600, gop=50, options=fast))
    config = default_config()
    config.data.eval_transform = "sample_frames(12)"
    count = 0
    for count, _ in enumerate(read_windows(str(path), 0.48, config, 3), start=1):
        gc.collect()  # Tests collect garbage seldom.
        if count == 20:
            pathlib.Path("/proc/self/clear_refs").write_text("5")  # Resets the peak.
            before = peak()
    assert count == 50
    assert peak() - before < 25e6


def peak() -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
