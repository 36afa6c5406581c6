"""Videos from every kind of source that reads files."""

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
