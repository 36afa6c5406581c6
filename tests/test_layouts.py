"""docs/layouts.md: every tree is built, and read as its table says."""

import json
import re
import shutil

import pytest
from PIL import Image

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import open_dataset
from tests.conftest import REPO

TEXT = (REPO / "docs" / "layouts.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| [")
]
FORMATS = {"jfif": "JPEG", "jpg": "JPEG", "tif": "TIFF"}


def section(title: str) -> str:
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)[1]


def build(title: str, root) -> None:
    """Writes the tree of a section; its label files are the other blocks, in order."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", section(title), re.S)
    contents = [content for kind, content in blocks if kind != "text"]
    (tree,) = (content for kind, content in blocks if kind == "text")
    for line in tree.splitlines():
        for path in expand(line):
            file = root / path.replace(".zip/", ".zip.tree/")
            file.parent.mkdir(parents=True, exist_ok=True)
            suffix = file.suffix[1:]
            if suffix in ("csv", "json"):
                file.write_text(contents.pop(0))
            elif suffix == "xcf":
                file.write_bytes(b"gimp xcf")
            else:
                Image.new("RGB", (8, 8), (200, 9, 9)).save(
                    file, FORMATS.get(suffix, suffix.upper())
                )
    assert not contents
    for folder in root.glob("*.zip.tree"):
        shutil.make_archive(str(root / folder.name.removesuffix(".zip.tree")), "zip", folder)


def expand(line: str) -> list[str]:
    """`cat/1-3.jpg` as three paths."""
    match = re.fullmatch(r"(.*/)(\d+)-(\d+)(\.\w+)", line)
    if match is None:
        return [line]
    numbers = range(int(match[2]), int(match[3]) + 1)
    return [f"{match[1]}{number}{match[4]}" for number in numbers]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "_", row[0].split("]")[0]))
def test_a_layout_is_read_as_documented(row, tmp_path):
    link, spec, *counts, classes = row
    title, anchor = re.fullmatch(r"\[(.*)\]\(#(.*)\)", link).groups()
    assert anchor == title.lower().replace(" ", "-")
    build(title, tmp_path)
    kind, _, path = spec.strip("`").partition(":")
    spec = f"{kind}:{tmp_path / path}"
    if classes.startswith("error: "):
        assert counts == ["", "", ""]
        with pytest.raises(ConfigError, match=re.escape(classes.removeprefix("error: "))):
            open_dataset(spec)
        return
    data = open_dataset(spec)
    expected = {s: int(n) for s, n in zip(("train", "val", "test"), counts, strict=True) if n}
    assert {split: len(data.open(split)) for split in data.splits} == expected
    assert data.open("train").class_names == tuple(classes.split(", "))


def test_every_section_has_a_row():
    titles = re.findall(r"^## (.*)$", TEXT, re.M)
    assert [re.match(r"\[(.*?)\]", row[0])[1] for row in ROWS] == titles
    assert json.loads(re.findall(r"```json\n(.*?)```", TEXT, re.S)[0])["images"]
