"""The audit of videos: planted copies, scenes, encoders, durations and broken files."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from imgcls.audit import checks, copies, shortcuts, videos
from imgcls.audit.__main__ import main
from imgcls.convert import convert
from imgcls.core.errors import ConfigError
from tests.conftest import exit_code
from tests.data.videos import write_video


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch, request):
    count = 1999 if "shortcuts" in request.node.name else 9
    find = shortcuts.find_shortcuts
    monkeypatch.setattr(checks, "find_shortcuts", lambda p, s: find(p, s, count))


def draw(seed: int, count: int = 40, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth scene over which a disk moves, with other colors for each seed: uint8 frames."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 226, (6, 8, 3)).astype(np.float32)
    rows, columns = np.linspace(0, 4.99, height), np.linspace(0, 6.99, width)
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = (rows - r)[:, None, None], (columns - c)[None, :, None]
    upper = coarse[r][:, c] * (1 - fc) + coarse[r][:, c + 1] * fc
    lower = coarse[r + 1][:, c] * (1 - fc) + coarse[r + 1][:, c + 1] * fc
    scene = upper * (1 - fr) + lower * fr
    start, speed = rng.uniform(8, 20, 2), rng.uniform(0.3, 0.9, 2)
    color, frames = rng.integers(0, 256, 3), []
    for number in range(count):
        y, x = (start + speed * number) % (height, width)
        disk = (np.arange(height)[:, None] - y) ** 2 + (np.arange(width) - x) ** 2 < 120
        frames.append(np.where(disk[..., None], color, scene).astype(np.uint8))
    return np.stack(frames)


def place(root, index: int):
    folder = root / ("train", "test")[index // 2 % 2] / ("jump", "walk")[index % 2]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def audit(data, out, *args: str) -> tuple[int, dict, str]:
    code = exit_code(lambda: main([f"--data={data}", f"--out={out}", *args]))
    return code, json.loads((out / "audit.json").read_text()), (out / "audit.html").read_text()


def texts(found: dict, level: str = "finding") -> list[str]:
    return [f["text"] for f in found["findings"] if f["level"] == level]


def base(rows) -> list[str]:
    return [row["name"].rpartition("/")[2] for row in rows]


def test_planted_faults_are_found_and_no_others(tmp_path):
    data = tmp_path / "data"
    for i in range(24):
        (place(data, i) / f"{i:02}.mp4").write_bytes(write_video(draw(i)))
    # In the other split: the same file, the same frames in another container, one that is encoded
    # again at half the size, and one that lacks its first and last frames.
    (place(data, 2) / "same.mp4").write_bytes((place(data, 0) / "00.mp4").read_bytes())
    lossless = dict(codec="ffv1", pixels="yuv420p")
    (place(data, 5) / "moved.mkv").write_bytes(write_video(draw(90), "matroska", **lossless))
    (place(data, 7) / "moved.avi").write_bytes(write_video(draw(90), "avi", **lossless))
    small = write_video(draw(1)[:, ::2, ::2], "webm", "libvpx-vp9", options={"crf": "40"})
    (place(data, 3) / "small.webm").write_bytes(small)
    (place(data, 6) / "cut.mp4").write_bytes(write_video(draw(4)[9:34]))
    # Among a class and a split: black, still, very long and large videos.
    (place(data, 0) / "black.mp4").write_bytes(write_video(np.zeros((20, 48, 64, 3), np.uint8)))
    (place(data, 1) / "still.mp4").write_bytes(write_video(np.repeat(draw(91, 1), 40, 0)))
    (place(data, 2) / "long.mp4").write_bytes(write_video(draw(92, 40), rate=2))
    (place(data, 3) / "large.mp4").write_bytes(write_video(draw(93, 40, 192, 256)))
    whole = (place(data, 0) / "00.mp4").read_bytes()
    (place(data, 1) / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    code, found, page = audit(f"folder:{data}", tmp_path / "out")
    assert code == 1 and found["pictures"] == 33
    exact = [(g["same_file"], sorted(base(g["pictures"]))) for g in found["duplicates"]["exact"]]
    assert sorted(exact) == [
        (False, ["moved.avi", "moved.mkv"]),
        (True, ["00.mp4", "same.mp4"]),
    ]
    near = [sorted(base(g["pictures"])) for g in found["duplicates"]["near"]]
    assert sorted(near) == [["01.mp4", "small.webm"], ["04.mp4", "cut.mp4"]]
    issues = {issue: base(rows) for issue, rows in found["quality"].items() if rows}
    assert issues == {
        "dark": ["black.mp4"],
        "low_information": ["black.mp4"],
        "still": ["black.mp4", "still.mp4"],
        "odd_size": ["large.mp4"],
        "odd_duration": ["long.mp4"],
    }
    assert base(found["unreadable"]) == ["broken.mp4"]
    assert "in which nothing moves" in page and "data:image/" in page
    assert not found["groups"] and not texts(found, "finding")[7:]


def test_shortcuts_and_scenes(tmp_path):
    """Walks are longer, at another rate and by another encoder; a scene is in two splits."""
    data = tmp_path / "data"
    for i in range(48):
        jumps = i % 2 == 0
        video = write_video(draw(i, 20 if jumps else 30), "avi", *(() if jumps else ("mpeg4",)))
        name = f"v_{'Jump' if jumps else 'Walk'}_g{i:02}_c01.avi"
        (place(data, i) / name).write_bytes(video)
    (place(data, 0) / "v_Jump_g02_c02.avi").write_bytes(write_video(draw(70, 20), "avi"))
    code, found, page = audit(data, tmp_path / "out")
    strong = {t["property"] for t in found["shortcuts"]["tests"] if t["level"] == "strong"}
    assert code == 1 and {"duration", "frames", "codec"} <= strong
    assert not strong & {"width", "height", "frame rate", "brightness", "hue", "sound"}
    duration = found["properties"]["duration"]
    assert (duration["min"], duration["max"]) == pytest.approx((0.8, 1.2))
    assert found["properties"]["codec"]["values"] == {"h264": 25, "mpeg4": 24}
    (group,) = found["groups"]
    assert (group["name"], group["splits"]) == ("Jump_g02", ["train", "test"])
    assert sorted(base(group["pictures"])) == ["v_Jump_g02_c01.avi", "v_Jump_g02_c02.avi"]
    (text,) = [t for t in texts(found) if "several splits" in t]
    assert text.startswith("1 group by name in several splits: Jump_g02 in train and test")
    assert "Jump_g02" in page and not found["duplicates"]["near"]


def write_table(root, rows: list[str], columns: str) -> str:
    (root / "videos.csv").write_text("\n".join([columns, *rows]))
    return f"manifest:{root / 'videos.csv'}"


def test_parts_of_a_video_in_two_splits(tmp_path):
    rows = []
    for i in range(8):
        (tmp_path / f"{i}.mp4").write_bytes(write_video(draw(i)))
        label, split = ("jump", "walk")[i % 2], ("train", "test")[i // 4]
        rows.append(f"{i}.mp4,{label},{split},0,0.7")
    rows.append("2.mp4,walk,test,0.8,")
    data = write_table(tmp_path, rows, "path,label,split,start,end")
    _, found, _ = audit(data, tmp_path / "out")
    (group,) = found["groups"]
    assert group["name"].endswith("2.mp4") and group["splits"] == ["train", "test"]
    assert base(group["pictures"]) == ["2.mp4#t=0,0.7", "2.mp4#t=0.8,"]
    assert "1 video with parts in several splits" in " ".join(texts(found))
    durations = found["properties"]["duration"]
    assert (durations["min"], durations["max"]) == pytest.approx((0.72, 0.8), abs=0.1)


def test_groups_of_a_manifest_stay_whole(tmp_path):
    rows = []
    for i in range(24):
        name = f"subject{i // 4:02}_{i}.mp4"
        (tmp_path / name).write_bytes(write_video(draw(i, 4)))
        rows.append(f"{name},{('jump', 'walk')[i % 2]},{i // 4}")
    plain = write_table(tmp_path, [r.rpartition(",")[0] for r in rows], "path,label")
    pattern = r"--group_pattern=/(subject\d+)_"
    _, found, _ = audit(plain, tmp_path / "out", pattern)
    assert len(found["groups"]) > 1 and found["groups"][0]["source"] == "name"
    assert "by name in several splits: subject0" in " ".join(texts(found))
    # Records keep names and groups.
    convert(plain, str(tmp_path / "records"), videos=True)
    _, found, _ = audit(tmp_path / "records", tmp_path / "out", pattern)
    assert len(found["groups"]) > 1 and found["pictures"] == 24
    whole = write_table(tmp_path, rows, "path,label,group")
    _, found, _ = audit(whole, tmp_path / "out", pattern)
    assert not found["groups"] and found["pictures"] == 24
    for wrong, message in (("(", "no regular"), ("subject", "no group"), ("(x)y", "matches none")):
        with pytest.raises(ConfigError, match=f"--group_pattern=.*: .*{message}"):
            main([f"--data={whole}", f"--out={tmp_path / 'out'}", f"--group_pattern={wrong}"])


def test_folders_of_frames(tmp_path):
    """They state no times, and are images unless the flag says otherwise."""
    for i in range(8):
        folder = tmp_path / "data" / ("jump", "walk")[i % 2] / f"{i}"
        folder.mkdir(parents=True)
        for n, frame in enumerate(draw(i, 3)):
            Image.fromarray(frame).save(folder / f"{n}.png")
    _, found, _ = audit(f"folder:{tmp_path / 'data'}", tmp_path / "out", "--videos")
    assert found["pictures"] == 8 and found["properties"]["duration"] == {"pictures": 0}
    frames = found["properties"]["frames"]
    assert (frames["min"], frames["max"], found["properties"]["width"]["max"]) == (3, 3, 64)


def test_a_zip_and_its_folder_have_the_same_findings(tmp_path):
    """Videos beside covers and notes, one of them cut and one broken."""
    data = tmp_path / "data"
    for i in range(10):
        (place(data, i) / f"{i}.mp4").write_bytes(write_video(draw(i, 20)))
    (place(data, 2) / "cut.webm").write_bytes(write_video(draw(0, 20)[3:], "webm", "libvpx-vp9"))
    (place(data, 1) / "broken.mp4").write_bytes((place(data, 1) / "1.mp4").read_bytes()[:900])
    (place(data, 0) / "notes.txt").write_text("two takes")
    shutil.make_archive(str(tmp_path / "data"), "zip", data)
    found = {}
    for name in ("data", "data.zip"):
        code, results, page = audit(f"folder:{tmp_path / name}", tmp_path / f"{name} out")
        assert code == 1 and "data:image/" in page
        # Too few videos to say so.
        assert "Not tested: there are too few videos." in page
        near = [sorted(base(g["pictures"])) for g in results["duplicates"]["near"]]
        assert near == [["0.mp4", "cut.webm"]]
        assert base(results["unreadable"]) == ["broken.mp4"] and results["pictures"] == 11
        said = [text.replace("data.zip/", "data/") for text in texts(results)]
        found[name] = said, results["properties"]["duration"]
    assert found["data"] == found["data.zip"]


def test_videos_in_no_class_folder(tmp_path):
    (tmp_path / "a.mp4").write_bytes(write_video(draw(0, 4)))
    with pytest.raises(ConfigError, match=r"a.mp4.*expected PATH/CLASS/\*.mp4") as e:
        main([f"--data=folder:{tmp_path}", f"--out={tmp_path / 'out'}"])
    assert "sample_frames" not in str(e.value)


def test_prints_of_a_copy_agree_with_a_loop():
    """The shift and the correlation of a cut copy, against a search frame by frame."""
    whole, cut = draw(3, 50), draw(3, 50)[13:45]
    other = draw(4, 50)
    prints = [
        videos.measure({"image": write_video(frames)}, "clip")["prints"]
        for frames in (other, whole, cut)
    ]
    pairs, correlation = copies.find_copies(prints)
    assert pairs.tolist() == [[1, 2]]
    best = []
    for thumb, print_ in zip(prints[2].thumbs, prints[2].hashes, strict=True):
        near = [bin(int(print_) ^ int(h)).count("1") <= 8 for h in prints[1].hashes]
        values = [np.corrcoef(thumb.ravel(), t.ravel())[0, 1] for t in prints[1].thumbs]
        best.append(max((v for v, n in zip(values, near, strict=True) if n), default=0))
    assert min(best) - 1e-6 <= correlation[0] <= max(best) + 1e-6 and correlation[0] > 0.95
