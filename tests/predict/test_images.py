"""Image files named by files, folders and globs."""

import pathlib

import pytest

from imgcls.core.errors import ConfigError
from imgcls.predict.images import common_folder, find_files


def test_find_files(tmp_path):
    names = ["b/2.png", "b/1.JPG", "b/c/3.webp", "b/notes.txt", "a.png", "a[1].png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    def find(*paths):
        found = find_files([str(tmp_path / path) for path in paths])
        return [str(pathlib.Path(file).relative_to(tmp_path)) for file in found]

    assert find("b") == ["b/1.JPG", "b/2.png", "b/c/3.webp"]
    assert find("b/*.png", "a.png") == ["b/2.png", "a.png"]
    assert find("**/*.png") == ["a.png", "a[1].png", "b/2.png"]
    assert find("a[1].png") == ["a[1].png"]
    assert find("?") == ["b/1.JPG", "b/2.png", "b/c/3.webp"]
    # A file is kept whatever its name, and each file is listed once.
    assert find("b/notes.txt") == ["b/notes.txt"]
    assert find("b/2.png", "b", "b/*") == ["b/2.png", "b/1.JPG", "b/c/3.webp", "b/notes.txt"]
    for missing in ("c", "*.gif", "b/nothing.png"):
        with pytest.raises(ConfigError, match="no images found; name files, folders or globs"):
            find("a.png", missing)


def test_folder_named_like_an_image(tmp_path):
    (tmp_path / "album.png").mkdir()
    (tmp_path / "album.png" / "1.png").write_bytes(b"x")
    expected = [str(tmp_path / "album.png" / "1.png")]
    assert find_files([str(tmp_path)]) == expected
    assert find_files([str(tmp_path / "album.png")]) == expected


def test_common_folder(tmp_path, monkeypatch):
    for name in ("a/b/1.png", "a/c/2.png", "d/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    for paths, expected in (
        (["a/b/1.png"], "a/b"),
        (["a/b"], "a/b"),
        (["a/*/1.png"], "a"),
        (["a/b/../c/2.png", "a/b/1.png"], "a"),
        (["a/b/1.png", str(tmp_path / "d")], ""),
    ):
        assert common_folder(paths) == str(tmp_path / expected).rstrip("/")
