"""`bench/real_videos.py` on small videos whose frames show their numbers."""

import csv
import itertools
import subprocess
import sys

import numpy as np

from imgcls.data.decode.video import EncodedVideo
from tests.conftest import REPO
from tests.data.videos import number_in, numbered, write_video


def test_windows(tmp_path):
    """No part of a video is in two splits, and backward windows are the forward ones reversed."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    # Two names differ by the extension alone.
    for name, count in {"a.mp4": 65, "a.avi": 70, "b.mp4": 75}.items():
        frames = [numbered(n) for n in range(count)]
        (videos / name).write_bytes(write_video(frames, name[-3:]))
    script = [sys.executable, "bench/real_videos.py", f"--videos={videos}", f"--out={out}"]
    subprocess.run(script, cwd=REPO, check=True)

    spans: dict[tuple, list] = {}
    for row in csv.DictReader((out / "which.csv").open()):
        assert row["path"] == f"videos/{row['label']}"
        spans.setdefault((row["label"], row["split"]), []).append((row["start"], row["end"]))
    assert len(spans) == 9
    for name in ("a.mp4", "a.avi", "b.mp4"):
        for early, late in itertools.pairwise(("train", "val", "test")):
            ends = [float(end) for _, end in spans[name, early]]
            assert max(ends) <= min(float(start) for start, _ in spans[name, late])

    rows = list(csv.DictReader((out / "order.csv").open()))
    assert {(r["group"], r["split"]) for r in rows} == {
        ("a.mp4", "train"),
        ("a.avi", "val"),
        ("b.mp4", "test"),
    }
    clips = {r["path"]: EncodedVideo(out / r["path"], r["path"]).frames(range(16)) for r in rows}
    forward = [r["path"] for r in rows if r["label"] == "forward"]
    assert 2 * len(forward) == len(rows) == len(clips)
    for path in forward:
        shown = [number_in(frame) for frame in clips[path]]
        assert shown == list(range(shown[0], shown[0] + 16))
        backward = clips[path.replace("forward", "backward")]
        np.testing.assert_array_equal(backward, clips[path][::-1])
