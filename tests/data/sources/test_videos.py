"""Videos from every kind of source that reads files."""

import json
import shutil

import pytest
from PIL import Image

from imgcls.convert import convert
from imgcls.core.errors import ConfigError, DataError
from imgcls.data.loading.reader import Reader
from imgcls.data.sources.open import create_source, open_dataset
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS
from tests.data.videos import number_in, numbered, numbered_video

KINDS = {
    ".mp4": ("mp4", "libx264", None),
    ".mov": ("mov", "libx264", None),
    ".mkv": ("matroska", "libx264", None),
    ".avi": ("avi", "mpeg4", None),
    ".mpg": ("mpeg", "mpeg2video", None),
    ".webm": ("webm", "libvpx", None),
    ".gif": ("gif", "gif", "rgb8"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Class folders with a video of each format and two folders of frames; and other files."""
    root = tmp_path_factory.mktemp("videos")
    for label in ("a", "b"):
        (root / label).mkdir()
    for number, (extension, (container, codec, pixels)) in enumerate(KINDS.items()):
        data = numbered_video(12, container, codec, pixels=pixels)
        (root / "ab"[number % 2] / f"clip{extension}").write_bytes(data)
        # A picture of a video is not a frame.
        Image.new("RGB", (9, 9)).save(root / "ab"[number % 2] / "cover.jpg")
    for name in ("a/frames", "b/more frames"):
        (root / name).mkdir()
        for number in range(12):
            Image.fromarray(numbered(number)).save(root / name / f"{number}.png")
    (root / "a" / "notes.txt").write_text("")
    return root


def read(source, index: int) -> list[int]:
    """The numbers of the four frames in the middle."""
    transforms = spec.parse("sample_frames(4)", TRANSFORMS, "x")
    example = Reader(source, transforms, 0, False)._read(index, index)
    return [number_in(frame) for frame in example["image"]]


def open_all(source: str, **options):
    data = open_dataset(source, videos=True, **options)
    return [data.open(split) for split in data.splits], data


def names(sources) -> list[str]:
    return sorted(source.name(i) for source in sources for i in range(len(source)))


@pytest.mark.parametrize("kind", ["folder", "zip", "records"])
def test_class_folders(kind, folder, tmp_path):
    source = f"folder:{folder}"
    if kind == "zip":
        source = "folder:" + shutil.make_archive(str(tmp_path / "all"), "zip", folder)
    if kind == "records":
        convert(source, str(tmp_path / "records"), videos=True)
        source = f"records:{tmp_path / 'records'}"
    sources, data = open_all(source)
    if kind != "records":
        assert data.problems.other_files == {".jpg": 2, ".txt": 1}
    found = names(sources)
    assert len(found) == 9 and sum(name.endswith("frames") for name in found) == 2
    for opened in sources:
        assert opened.class_names == ("a", "b")
        for index in range(len(opened)):
            assert read(opened, index) == [4, 5, 6, 7], opened.name(index)
            label = opened.class_names[opened[index]["label"]]
            assert label == opened.name(index).split("/")[-2]


def test_without_transforms_of_videos_only_images_are_listed(folder):
    source = create_source(f"folder:{folder}", "train")
    data = open_dataset(f"folder:{folder}")
    found = names([data.open(split) for split in data.splits])
    assert {name.rpartition(".")[2] for name in found} == {"jpg", "png", "gif"}
    assert data.problems.other_files[".mp4"] == 1
    with pytest.raises(ConfigError, match="shape"):
        reader = Reader(source, [], 0, False)
        [reader._read(i, i) for i in range(len(source))]


def test_a_folder_of_videos_alone_names_the_transforms(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.mp4").write_bytes(numbered_video(2))
    with pytest.raises(ConfigError, match="1 .mp4 .to read videos: begin the transforms with"):
        open_dataset(f"folder:{tmp_path}")


def test_a_video_for_transforms_of_images_is_named(tmp_path):
    (tmp_path / "1.mp4").write_bytes(numbered_video(2))
    (tmp_path / "labels.csv").write_text("path,label\n1.mp4,a\n")
    data = open_dataset(f"manifest:{tmp_path / 'labels.csv'}", on_error="skip")
    source = next(data.open(split) for split in data.splits if len(data.open(split)))
    with pytest.raises(DataError, match="1.mp4: is a video; begin both transforms with"):
        Reader(source, [], 0, False)._read(0, 0)


def test_a_manifest_names_videos_and_folders(folder):
    rows = ["path,label", "a/clip.mp4,x", "b/clip.mov,y", "a/frames,x", "b/more frames/,y"]
    (folder / "labels.csv").write_text("\n".join(rows))
    try:
        sources, _ = open_all(f"manifest:{folder / 'labels.csv'}")
    finally:
        (folder / "labels.csv").unlink()
    assert len(names(sources)) == 4
    for source in sources:
        assert [read(source, i) for i in range(len(source))] == [[4, 5, 6, 7]] * len(source)
        assert source.labels().tolist() == [source[i]["label"] for i in range(len(source))]


def numbers_of(source) -> dict[str, list[int]]:
    """All frames of each example, by the end of its name."""
    transforms = spec.parse("sample_frames(100, short='hold')", TRANSFORMS, "x")
    reader = Reader(source, transforms, 0, False)
    found = {}
    for index in range(len(source)):
        frames = [number_in(frame) for frame in reader._read(index, index)["image"]]
        found[source.name(index).rpartition("/")[2]] = sorted(set(frames))
    return found


@pytest.fixture
def long_videos(tmp_path):
    """Two videos of 50 frames, 25 per second."""
    for name in ("1.mp4", "2.mp4"):
        (tmp_path / name).write_bytes(numbered_video(50, gop=12))
    return tmp_path


@pytest.mark.parametrize("kind", ["manifest", "records"])
def test_start_and_end_cut_a_video(kind, long_videos, tmp_path):
    rows = ["path,label,start,end", "1.mp4,a,0,0.4", "1.mp4,b,0.4,1.2", "1.mp4,a,1.2,", "2.mp4,b,,"]
    (long_videos / "labels.csv").write_text("\n".join(rows))
    source = f"manifest:{long_videos / 'labels.csv'}"
    if kind == "records":
        convert(source, str(tmp_path / "records"), videos=True)
        source = f"records:{tmp_path / 'records'}"
    sources, _ = open_all(source)
    found = {}
    for opened in sources:
        found |= numbers_of(opened)
        # The parts of a video are in one split.
        assert len({opened.name(i).partition("#")[0] for i in range(len(opened))}) <= 1
    assert found == {
        "1.mp4#t=0,0.4": list(range(10)),
        "1.mp4#t=0.4,1.2": list(range(10, 30)),
        "1.mp4#t=1.2,": list(range(30, 50)),
        "2.mp4": list(range(50)),
    }


def test_start_and_end_of_images_are_metadata(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "1.png")
    (tmp_path / "labels.csv").write_text("path,label,start,end\n1.png,a,x,9\n")
    data = open_dataset(f"manifest:{tmp_path / 'labels.csv'}")
    source = next(data.open(split) for split in data.splits if len(data.open(split)))
    assert source.metadata(0) == {"start": "x", "end": "9"} and source[0].keys() == {
        "image",
        "label",
    }


@pytest.mark.parametrize("times", ["x,1", "2,1", "1,1", "-1,3", "inf,", "nan,"])
def test_invalid_times_are_named(times, long_videos):
    (long_videos / "labels.csv").write_text(f"path,label,start,end\n1.mp4,a,{times}\n")
    with pytest.raises(ConfigError, match="labels.csv line 2 has start=.*write seconds"):
        open_dataset(f"manifest:{long_videos / 'labels.csv'}", videos=True)


def test_a_part_after_the_end_is_an_error_of_its_file(long_videos):
    (long_videos / "labels.csv").write_text("path,label,start,end\n1.mp4,a,7,9\n")
    sources, _ = open_all(f"manifest:{long_videos / 'labels.csv'}")
    (source,) = (opened for opened in sources if len(opened))
    with pytest.raises(
        DataError, match="1.mp4#t=7,9: has no frame from 7.0 to 9.0 seconds; its last"
    ):
        numbers_of(source)


def write_darwin(folder, name: str, annotations: list, **slot) -> None:
    item = {"name": name, "path": "/"}
    if slot:
        source = [{"file_name": name}]
        item["slots"] = [{"slot_name": "0", "type": "video", "source_files": source, **slot}]
    content = {"version": "2.0", "item": item, "annotations": annotations}
    (folder / f"{name}.json").write_text(json.dumps(content))


def video_tag(name: str, *ranges) -> dict:
    frames = {"0": {"tag": {}, "keyframe": True}}
    return {"name": name, "frames": frames, "ranges": [list(pair) for pair in ranges]}


def test_darwin_labels_videos_frames_and_parts(long_videos):
    shape = dict(frame_count=50, fps=25.0)
    write_darwin(
        long_videos, "1.mp4", [video_tag("run", (0, 20)), video_tag("jump", (20, 50))], **shape
    )
    write_darwin(long_videos, "2.mp4", [video_tag("run", (0, 50))], **shape)
    write_darwin(long_videos, "3.mp4", [video_tag("jump")], **shape)
    (long_videos / "3").mkdir()  # Downloaded as frames.
    for number in range(12):
        Image.fromarray(numbered(number)).save(long_videos / "3" / f"{number:07d}.png")
    sources, data = open_all(f"darwin:{long_videos}")
    found, labels = {}, {}
    for opened in sources:
        found |= numbers_of(opened)
        for index in range(len(opened)):
            label = opened.class_names[opened[index]["label"]]
            labels[opened.name(index).rpartition("/")[2]] = label
    assert found == {
        "1.mp4#t=0,0.8": list(range(20)),
        "1.mp4#t=0.8,2": list(range(20, 50)),
        "2.mp4": list(range(50)),
        "3": list(range(12)),
    }
    assert labels == {"1.mp4#t=0,0.8": "run", "1.mp4#t=0.8,2": "jump", "2.mp4": "run", "3": "jump"}
    assert not data.problems.passed_over


def test_label_studio_labels_videos(long_videos):
    tasks = [
        {
            "id": number,
            "data": {"video": f"/data/upload/1/0123abcd-{number}.mp4"},
            "annotations": [
                {
                    "result": [
                        {"type": "choices", "from_name": "c", "value": {"choices": ["a"]}},
                    ]
                }
            ],
        }
        for number in (1, 2)
    ]
    (long_videos / "export.json").write_text(json.dumps(tasks))
    sources, _ = open_all(f"labelstudio:{long_videos / 'export.json'}")
    assert [name.rpartition("/")[2] for name in names(sources)] == ["1.mp4", "2.mp4"]
