"""Order of the classes, and their file."""

import os
import stat
import zipfile

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import create_source, open_dataset
from imgcls.data.table import problems as kinds
from tests.data.table.reading import names, skipped


def test_order_of_the_classes_does_not_change_the_split(manifest, tmp_path):
    rows = [(f"{i}.jpg", "abc"[i % 3]) for i in range(90)]
    before = names(create_source(manifest(rows), "val"))
    (tmp_path / "classes.txt").write_text("unused\nc\nb\na\n")
    after = create_source(manifest(rows), "val")
    assert names(after) == before and after.class_names == ("unused", "c", "b", "a")


def test_classes_file(manifest, tmp_path):
    rows = [(f"{i}.jpg", "bé" if i % 2 else "a") for i in range(20)]
    spec = manifest(rows)
    assert create_source(spec, "train", write_classes=True).class_names == ("a", "bé")
    classes_file = tmp_path / "m.csv.classes.txt"
    assert classes_file.read_bytes() == "a\nbé\n".encode()
    found = skipped(manifest([*rows, ("c.jpg", "Aa")]))
    assert found.names == {kinds.UNKNOWN: ["'Aa' of c.jpg"]}
    with pytest.raises(
        ConfigError, match=f"add it at the end of {classes_file}, or remove that file"
    ):
        create_source(spec, "train")
    classes_file.write_text("bé\r\na \n\nAa\n", encoding="utf-8-sig")
    source = create_source(spec, "train")
    assert source.class_names == ("bé", "a", "Aa")
    for i in range(len(source)):
        expected = "Aa" if names(source)[i] == "c.jpg" else rows[int(names(source)[i][:-4])][1]
        assert source.class_names[source[i]["label"]] == expected
    classes_file.write_text("a\nbé\nAa\na\n")
    with pytest.raises(ConfigError, match=f"{classes_file}: lists the class 'a' twice"):
        create_source(spec, "train")
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["m.csv.classes.txt", "m.csv", "c.jpg"] + [r[0] for r in rows]
    )


def test_tables_of_a_folder_have_their_own_classes(manifest, tmp_path):
    """A `classes.txt` of the folder is read where a table has no file of its own."""
    spec = manifest([("1.jpg", "a"), ("2.jpg", "b")])
    open_dataset(spec, write_classes=True)
    (tmp_path / "n.csv").write_text("path,label\n1.jpg,c\n2.jpg,b\n")
    other = f"manifest:{tmp_path / 'n.csv'}"
    open_dataset(other, write_classes=True)
    assert open_dataset(other).open("train").class_names == ("b", "c")
    assert open_dataset(spec).open("train").class_names == ("a", "b")
    assert (tmp_path / "n.csv.classes.txt").read_text() == "b\nc\n"
    assert not (tmp_path / "classes.txt").exists()

    (tmp_path / "n.csv.classes.txt").unlink()
    (tmp_path / "classes.txt").write_text("c\nb\n")
    assert open_dataset(other).open("train").class_names == ("c", "b")
    assert open_dataset(spec).open("train").class_names == ("a", "b")
    (tmp_path / "classes.txt").write_text("d\nc\n")
    hint = rf"end of {tmp_path}/classes.txt, or list the classes of this table in {other[9:]}\."
    with pytest.raises(ConfigError, match=hint):
        open_dataset(other)
    (tmp_path / "classes.txt").write_text("x\ny\n")
    assert open_dataset(other, write_classes=True).open("train").class_names == ("b", "c")


def test_a_class_that_only_its_file_has_is_named(manifest, tmp_path, capsys):
    spec = manifest([("1.jpg", "a+b"), ("2.jpg", "b")])
    open_dataset(spec, write_classes=True)
    assert capsys.readouterr().err == ""
    (tmp_path / "m.csv.classes.txt").write_text("a\na+b\nb\n")
    assert open_dataset(spec, separator="+").open("train").class_names == ("a", "a+b", "b")
    line = f"only {tmp_path}/m.csv.classes.txt has the class 'a+b', no image; remove its line if"
    assert line in capsys.readouterr().err


def test_classes_file_of_folders(tmp_path):
    for name in ("x/1.png", "y/2.png"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True)
        (tmp_path / "tree" / name).write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "my.tree.zip", "w") as archive:
        for name in ("x/1.png", "y/2.png"):
            archive.writestr(name, b"")
    classes_files = {"tree": "tree/classes.txt", "my.tree.zip": "my.tree.classes.txt"}
    for root, classes_file in classes_files.items():
        open_dataset(f"folder:{tmp_path / root}", write_classes=True)
        assert (tmp_path / classes_file).read_text() == "x\ny\n"
        (tmp_path / classes_file).write_text("z\ny\nx\n")
        assert open_dataset(f"folder:{tmp_path / root}").open("train").class_names == (
            "z",
            "y",
            "x",
        )
        (tmp_path / classes_file).write_text("x\n")
        assert skipped(f"folder:{tmp_path / root}").names == {kinds.UNKNOWN: ["'y' of y/2.png"]}


def test_classes_file_is_optional(manifest, tmp_path):
    """Nothing is written for a refused dataset, by readers, or to a read-only folder."""
    with pytest.raises(ConfigError):
        open_dataset(manifest([("a.jpg", "x"), ("b.jpg", "")]), write_classes=True)
    assert not (tmp_path / "classes.txt").exists()
    spec = manifest([("a.jpg", "x"), ("b.jpg", "y")])
    open_dataset(spec)
    assert not (tmp_path / "classes.txt").exists()
    mode = stat.S_IMODE(os.stat(tmp_path).st_mode)
    os.chmod(tmp_path, 0o555)
    try:
        data = open_dataset(spec, write_classes=True)
        assert data.open("train").class_names == ("x", "y")
        assert sorted(os.listdir(tmp_path)) == ["a.jpg", "b.jpg", "m.csv"]
    finally:
        os.chmod(tmp_path, mode)
