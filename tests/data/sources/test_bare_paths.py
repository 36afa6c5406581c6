"""A path without a kind is a folder, a manifest or records, where that is plain."""

import pytest

from imgcls.convert import convert
from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import complete_spec, open_dataset
from tests.data.own import write_csv
from tests.data.sources.trees import class_files, write_images, write_zip


@pytest.fixture
def root(tmp_path):
    """The same data as a directory, a zip, a table and records."""
    files = class_files({"cat": 10, "dog": 10})
    write_images(tmp_path / "tree", files)
    write_zip(tmp_path / "tree.zip", tmp_path / "tree")
    write_csv(tmp_path / "tree" / "all.CSV", ["path", "label"], [(f, f[:3]) for f in files])
    convert(f"folder:{tmp_path / 'tree'}", str(tmp_path / "records"))
    return tmp_path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("tree", "folder"),
        ("tree.zip", "folder"),
        ("tree/all.CSV", "manifest"),
        ("records", "records"),
    ],
)
def test_what_a_path_means(root, path, kind, monkeypatch):
    assert complete_spec(f"{root}/{path}") == f"{kind}:{root}/{path}"
    data = open_dataset(f"{root}/{path}")
    assert data.splits == ("train", "val", "test") and len(data.open("train")) == 16
    monkeypatch.chdir(root)
    assert complete_spec(path) == f"{kind}:{path}"
    monkeypatch.setenv("HOME", str(root))
    assert complete_spec(f"~/{path}") == f"{kind}:~/{path}"


def test_what_is_not_plain(tmp_path, monkeypatch):
    (tmp_path / "all.json").write_text("{}")
    with pytest.raises(ConfigError, match="all.json': write its format, such as coco:PATH"):
        open_dataset(f"{tmp_path}/all.json")
    with pytest.raises(ConfigError, match="missing': no such file or directory"):
        open_dataset(f"{tmp_path}/missing")
    # A kind comes before a directory of its name.
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete_spec("digits") == "digits"
