"""Files on the server: only below the roots, never through links."""

import os

import pytest

from imgcls.studio.errors import Forbidden, NotFound, Refused
from imgcls.studio.pictures.registered import check_path, find_files, open_below


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "1.png").write_bytes(b"one")
    (root / "a" / "b" / "2.png").write_bytes(b"two")
    (root / "a" / ".hidden").write_bytes(b"no")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(b"secret")
    return root


def test_files_below_a_root(root):
    found = [(p.name, folder, why) for p, folder, why in find_files([str(root / "a")], [root])]
    assert found == [("1.png", "", ""), ("2.png", "b", "")]
    (one,) = find_files([str(root / "a" / "1.png")], [root])
    with open_below(one[0], [root]) as file:
        assert file.read() == b"one"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{root}/../secret/key",
        "{root}/a/../../secret/key",
        "{root}x/key",
        "/",
        "relative/1.png",
        "a/1.png",
        "~/1.png",
        "//server/share/1.png",
        "\\\\server\\share\\1.png",
        "C:\\1.png",
        "file:///etc/passwd",
        "{root}/a/1.png\0.txt",
        "{root}/a\n/1.png",
        "",
    ],
)
def test_paths_that_lead_out_are_refused(root, path):
    with pytest.raises((Forbidden, Refused)):
        list(find_files([str(root / "a"), path.format(root=root)], [root]))


def test_no_roots_no_files(root):
    with pytest.raises(Forbidden, match="--roots"):
        check_path(str(root / "a" / "1.png"), [])


@pytest.mark.parametrize("where", ["file", "folder"])
def test_links_are_not_followed(root, tmp_path, where):
    if where == "file":
        (root / "a" / "link").symlink_to(tmp_path / "secret" / "key")
        path = root / "a" / "link"
    else:
        (root / "a" / "link").symlink_to(tmp_path / "secret")
        path = root / "a" / "link" / "key"
    with pytest.raises(Forbidden, match="link"):
        open_below(path, [root])
    listed = {p.name: why for p, _, why in find_files([str(root / "a")], [root])}
    assert "key" not in listed
    if where == "file":
        assert "symbolic link" in listed["link"]


def test_a_folder_exchanged_for_a_link_after_the_check(root, tmp_path):
    path = check_path(str(root / "a" / "b" / "key"), [root])
    (root / "a" / "b" / "2.png").unlink()
    (root / "a" / "b").rmdir()
    (root / "a" / "b").symlink_to(tmp_path / "secret")
    with pytest.raises(Forbidden):
        open_below(path, [root])


def test_pipes_folders_and_missing_files(root):
    os.mkfifo(root / "pipe")
    for path in (root / "pipe", root / "a"):
        with pytest.raises(Forbidden, match="regular"):
            open_below(path, [root])
    with pytest.raises(NotFound, match="there is no file"):
        open_below(root / "no.png", [root])
    found = {
        p.name: why for p, _, why in find_files([str(root / "pipe"), str(root / "no")], [root])
    }
    assert found == {"pipe": "no regular file", "no": "there is no such file"}


def test_a_root_that_is_a_link_is_the_owners_choice(root, tmp_path):
    (tmp_path / "alias").symlink_to(root)
    with open_below(tmp_path / "alias" / "a" / "1.png", [tmp_path / "alias"]) as file:
        assert file.read() == b"one"


def test_no_descriptor_is_left_open(root):
    before = len(os.listdir("/proc/self/fd"))
    for path in (root / "no", root / "a", root / "a" / "no" / "no"):
        with pytest.raises(Refused):
            open_below(path, [root])
    assert len(os.listdir("/proc/self/fd")) == before
