"""Manifests with a column of 0 and 1 for each class, and with a row for each label."""

import pytest

from imgcls.core import log
from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.data.create import open_split
from imgcls.data.sources.open import open_dataset
from imgcls.data.table import problems as kinds
from tests.data.formats.cases import examples, problems, write


@pytest.fixture
def root(pictures):
    return pictures("a.jpg", "b.jpg", "c.jpg")


@pytest.mark.parametrize(
    "text",
    [
        "image,cat,dog,age\na.jpg,1,0,7\nb.jpg,0,1,1\nc.jpg,0,1,0\n",
        "dog;age;image;cat\n0.0;x;a.jpg;1.0\n1.0;;b.jpg;0.0\n1;0;c.jpg; 0 \n",
        "Image, cat ,dog\na.jpg,True,FALSE\nb.jpg,0,1\nc.jpg,0,1\n",
    ],
)
def test_recognized_columns(root, capsys, text):
    """One 1 in each row is one label per image; other columns are metadata."""
    spec = f"manifest:{write(root, 'm.csv', text)}"
    log.warn_once.cache_clear()
    assert examples(spec) == {"a.jpg": ["cat"], "b.jpg": ["dog"], "c.jpg": ["dog"]}
    line = capsys.readouterr().err.partition("the classes are the columns that hold only 0 and 1: ")
    assert sorted(line[2].partition(";")[0].split(", ")) == ["cat", "dog"]
    source = open_dataset(spec).open("train")
    assert (source.class_names, source.multi_label) == (("cat", "dog"), False)


def test_several_or_no_ones_are_multi_label(root):
    """A class without an example is still a class. JSON lines have numbers and booleans."""
    lines = (
        '{"path": "a.jpg", "cat": 1, "dog": 1, "cow": 0}\n'
        '{"path": "b.jpg", "cat": false, "dog": false, "cow": false}\n'
        '{"path": "c.jpg", "cat": 0.0, "dog": 1.0, "cow": 0}\n'
    )
    spec = f"manifest:{write(root, 'm.jsonl', lines)}"
    assert examples(spec) == {"a.jpg": ["cat", "dog"], "b.jpg": [], "c.jpg": ["dog"]}
    source = open_dataset(spec).open("train")
    assert source.multi_label and source.class_names == ("cat", "cow", "dog")
    with pytest.raises(ConfigError, match="multi_label=False, but a.jpg has the labels cat, dog"):
        open_dataset(spec, multi_label=False)


def test_declared_columns(root):
    """Of several columns of 0 and 1 some are classes, instead of a column `label`."""
    text = "path,label,cat,dog,blurry\na.jpg,x,1,0,1\nb.jpg,y,0,1,0\nc.jpg,z,0,1,1\n"
    spec = f"manifest:{write(root, 'm.csv', text)}"
    options = dict(label_columns=("cat", "dog"))
    assert examples(spec, **options) == {"a.jpg": ["cat"], "b.jpg": ["dog"], "c.jpg": ["dog"]}
    source = open_dataset(spec, **options).open("train")
    assert all(source.metadata(i).keys() == {"blurry"} for i in range(len(source)))
    config = default_config()
    config.data.source, config.data.label_columns = spec, ("blurry", "cat")
    source = open_split(config, "train")
    assert source.multi_label and source.class_names == ("blurry", "cat")
    message = "label_columns: no column 'dgo'; did you mean 'dog'.; it has label, cat, dog, blurry"
    with pytest.raises(ConfigError, match=message):
        open_dataset(spec, label_columns=("cat", "dgo"))


def test_cells_that_are_not_0_or_1(root):
    """They are problems of declared columns, and such columns are not recognized."""
    text = "path,cat,dog\na.jpg,1,-1\nb.jpg,,1\nc.jpg,0.5,0\n"
    spec = f"manifest:{write(root, 'm.csv', text)}"
    message = "no column for the label; it has path, cat, dog, .* or a column of 0 and 1 for each"
    with pytest.raises(ConfigError, match=message):
        open_dataset(spec)
    found = problems(spec, label_columns=("cat", "dog"))
    cells = ("2 has '-1' in the column 'dog'", "4 has '0.5' in the column 'cat'")
    assert found.names == {kinds.MALFORMED: [f"m.csv line {cell}, not 0 or 1" for cell in cells]}


def test_one_row_per_label(root):
    """Rows of an image are joined under `multi_label`; otherwise the message says how."""
    text = "path,label\na.jpg,cat\na.jpg,dog\nb.jpg,dog\n./a.jpg,ant|dog\nc.jpg,cat\n"
    spec = f"manifest:{write(root, 'm.csv', text)}"
    found = examples(spec, multi_label=True)
    assert found == {"a.jpg": ["ant", "cat", "dog"], "b.jpg": ["dog"], "c.jpg": ["cat"]}
    message = r"different labels \(a.jpg\) \[config.data.multi_label=True joins the labels\]"
    with pytest.raises(ConfigError, match=message):
        open_dataset(spec)
    text = "path,label,split\na.jpg,cat,train\na.jpg,dog,test\nb.jpg,cat,train\nb.jpg,cat,train\n"
    spec = f"manifest:{write(root, 'n.csv', text)}"
    found = problems(spec, multi_label=True)
    assert found.names == {kinds.CONFLICT: ["a.jpg"], kinds.DUPLICATE: ["b.jpg"]}
