"""Names in one Unicode form, in folders, label files and zips; and names that look alike."""

import unicodedata
import zipfile

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.files import Files
from imgcls.data.sources.open import open_dataset
from imgcls.data.table import problems as kinds
from imgcls.data.table.names import describe_alike, find_alike
from tests.data.own import write_coco, write_darwin, write_label_studio
from tests.data.sources.trees import write_images

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def write_tree(root) -> list[str]:
    """The class `café` in one form in train and in the other in test; returns the paths."""
    paths = [f"train/{NFC}/{i}é.png" for i in range(3)]
    paths += [f"test/{NFD}/{i}é.png" for i in range(3)]
    paths += [f"{split}/tea/{i}.png" for split in ("train", "test") for i in range(2)]
    write_images(root, [unicodedata.normalize("NFD" if NFD in p else "NFC", p) for p in paths])
    return paths


def check(data, count: int = 3) -> None:
    """The two forms are one class."""
    assert data.open("train").class_names == (NFC, "tea") and not data.problems
    for split in ("train", "test"):
        assert (data.open(split).labels() == 0).sum() == count
        assert len({data.open(split)[i]["image"] for i in range(count)}) == count


def test_folders_in_two_forms_are_one_class(tmp_path):
    write_tree(tmp_path)
    check(open_dataset(f"folder:{tmp_path}", write_classes=True))
    assert (tmp_path / "classes.txt").read_text() == f"{NFC}\ntea\n"


def test_a_class_file_in_the_other_form(tmp_path):
    write_tree(tmp_path)
    (tmp_path / "classes.txt").write_text(f"{NFD}\ntea\n")
    check(open_dataset(f"folder:{tmp_path}"))


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_manifest_in_another_form_than_its_files(tmp_path, form, kind):
    paths = write_tree(tmp_path / "tree")
    rows = [unicodedata.normalize(form, ",".join((p, p.split("/")[1]))) for p in paths]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    root = tmp_path / "tree"
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "tree.zip", "w") as archive:
            for file in root.rglob("*.png"):
                archive.write(file, file.relative_to(root))
        root = tmp_path / "tree.zip"
    check(open_dataset(f"manifest:{tmp_path / 'all.csv'}", data_dir=str(root)))


def test_an_image_that_is_listed_in_both_forms(tmp_path):
    write_images(tmp_path, [f"{NFC}.png", "tea.png"])
    table = tmp_path / "all.csv"
    table.write_text(
        f"path,label,group\n{NFC}.png,{NFC},{NFC}\n{NFD}.png,{NFD},{NFD}\ntea.png,x,\n"
    )
    with pytest.raises(ConfigError, match="1 x image listed twice"):
        open_dataset(f"manifest:{table}")
    problems = open_dataset(f"manifest:{table}", on_error="skip").problems
    assert problems.counts == {kinds.DUPLICATE: 1}


@pytest.mark.parametrize("write", [write_darwin, write_label_studio, write_coco])
def test_label_formats(tmp_path, write):
    write_images(tmp_path, [f"1{NFC}.png", f"2{NFD}.png", "3.png"])
    labels = {f"1{NFD}.png": [NFD], f"2{NFC}.png": [NFC], "3.png": ["tea"]}
    path = write(tmp_path / ("ann" if write is write_darwin else "all.json"), labels)
    kind = write.__name__.removeprefix("write_").replace("_", "")
    data = open_dataset(f"{kind}:{path}", data_dir=str(tmp_path))
    assert data.open("train").class_names == (NFC, "tea")
    assert sum(len(data.open(split)) for split in data.splits) == 3


def test_files_of_both_forms_are_two_images(tmp_path):
    write_images(tmp_path, [f"x/{NFC}.png", f"x/{NFD}.png"])
    found = Files(str(tmp_path), "x").existing([f"x/{NFC}.png", f"x/{NFD}.png", "x/cafe.png"])
    assert found == {f"x/{NFC}.png": f"x/{NFC}.png", f"x/{NFD}.png": f"x/{NFD}.png"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Cat", "cat", "dog"], [("Cat", "cat")]),
        (["1", "01", "1.0", "2"], [("1", "01", "1.0")]),
        (["hot dog", "hot_dog", "Hot-Dog"], [("hot dog", "hot_dog", "Hot-Dog")]),
        (["nan", "cat"], [("nan",)]),
        (["NaN", "nan", "N/A"], [("NaN", "nan"), ("N/A",)]),
        (["fi\ufb01", "fifi"], [("fi\ufb01", "fifi")]),
        (["cat", "cats", "10", "100", "none", "inf"], []),
    ],
)
def test_find_alike(names, expected):
    assert find_alike(names) == expected


def test_alike_in_words():
    text = "'Cat' and 'cat'; 'nan' (a missing value?)"
    assert describe_alike(find_alike(["Cat", "nan", "cat"])) == text
    many = find_alike([f"{name}{i}" for i in range(9) for name in "aA"])
    assert describe_alike(many).endswith("'a4' and 'A4' and 4 more")
