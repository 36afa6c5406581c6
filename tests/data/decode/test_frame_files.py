"""Folders of frames as videos."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import DataError
from imgcls.data.decode.frame_files import EncodedFrames, is_packed, pack_frames
from imgcls.data.files import Files, read_example
from tests.data.videos import number_in, numbered


def encode(frame: np.ndarray, kind: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, kind)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Frames 1.png ... 12.png, whose natural order is not the alphabetical one."""
    root = tmp_path / "clip"
    root.mkdir()
    for number in range(12):
        (root / f"{number + 1}.png").write_bytes(encode(numbered(number)))
    (root / "notes.txt").write_text("not a frame")
    (root / ".hidden.png").write_bytes(b"")
    return root


def test_frames_are_in_natural_order(folder):
    data = read_example(str(folder))
    clip = EncodedFrames(data, "clip")
    assert is_packed(data) and len(clip) == 12 and clip.times is None
    assert [number_in(frame) for frame in clip.frames(range(12))] == list(range(12))
    assert [number_in(frame) for frame in clip.frames([9, 2, 9])] == [9, 2, 9]
    np.testing.assert_array_equal(clip.frames([5])[0], numbered(5))
    assert clip.frames([1], size=32).shape == (1, 32, 48, 3)
    assert EncodedFrames(data, "clip", channels=1).frames([1]).shape == (1, 64, 96, 1)


def test_a_folder_of_a_zip_has_the_same_frames(folder, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path, "clip")
    files = Files(archive, "spec", videos=True)
    assert files.listing().images == ["clip"]
    assert files.existing(["clip", "other"]) == {"clip": "clip"}
    clip = EncodedFrames(files.read("clip"), "clip")
    assert [number_in(frame) for frame in clip.frames(range(12))] == list(range(12))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("1.png", b"no image")], "clip/1.png: not an image"),
        ([("1.png", encode(numbered(1))), ("2.png", encode(numbered(2))[:200])], "clip/2.png: "),
        (
            [("1.png", encode(numbered(1))), ("2.png", encode(numbered(2, 32, 32)))],
            r"clip/2.png: has the shape \[32, 32, 3\], and other frames have \[64, 96, 3\]",
        ),
    ],
)
def test_broken_frames_are_named(files, message):
    clip = EncodedFrames(pack_frames(files), "clip")
    with pytest.raises(DataError, match=message):
        clip.frames(range(len(clip)))


def test_a_broken_pack_and_an_empty_folder_are_refused(tmp_path):
    packed = pack_frames([("1.png", encode(numbered(1)))])
    with pytest.raises(DataError, match="clip: frames can't be read"):
        len(EncodedFrames(packed[:50], "clip"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: is a folder without images"):
        read_example(str(tmp_path / "empty"))
