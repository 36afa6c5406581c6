"""Manifests: delimiters, columns, labels, splits, and errors of invalid ones."""

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import create_source, open_dataset
from imgcls.data.table import problems as kinds
from tests.data.formats.cases import examples, problems, write


@pytest.mark.parametrize(
    "text",
    [
        "image,label\na.jpg,cat\nb.jpg,dog\n",
        "\ufefflabel,path\r\ncat,a.jpg\r\ndog,b.jpg\r\n",
        'File_Name , class\n"a.jpg"," cat "\n./b.jpg ,dog\n\n',
        "filename;tags\na.jpg;cat\nb.jpg;dog\n",
        'x,image_path,category\n"1,5",a.jpg,cat\n"two\nlines",b.jpg,"dog"',
    ],
)
def test_csv(pictures, text):
    file = write(pictures("a.jpg", "b.jpg"), "m.csv", text)
    assert examples(f"manifest:{file}") == {"a.jpg": ["cat"], "b.jpg": ["dog"]}


def test_tsv_and_json_lines(pictures):
    root = pictures("a,1.jpg", "b.jpg")
    tsv = write(root, "m.tsv", "file\tlabels\na,1.jpg\tbig cat\nb.jpg\tdog\n")
    assert examples(f"manifest:{tsv}") == {"a,1.jpg": ["big cat"], "b.jpg": ["dog"]}
    lines = '\ufeff{"file": "a,1.jpg", "label": 7}\n\n{"label": "8", "file": "b.jpg", "k": [1]}\n'
    file = write(root, "m.jsonl", lines)
    assert examples(f"manifest:{file}") == {"a,1.jpg": ["7"], "b.jpg": ["8"]}


def test_other_columns_are_metadata(pictures):
    root = pictures("a.jpg", "b.jpg")
    file = write(
        root, "m.csv", "path,label,split,group,Camera\na.jpg,x,train,p1,north\nb.jpg,x,test,,\n"
    )
    train, test = (create_source(f"manifest:{file}", split) for split in ("train", "test"))
    assert train.metadata(0) == {"Camera": "north"} and train.group(0) == "p1"
    assert test.metadata(0) == {"Camera": ""} and test.group(0) is None
    assert train.splits == test.splits == ("train", "test")


def test_several_labels(pictures):
    root = pictures("a.jpg", "b.jpg", "c.jpg")
    file = write(root, "m.csv", "path,label\na.jpg,cat | dog|cat\nb.jpg,\nc.jpg,dog\n")
    expected = {"a.jpg": ["cat", "dog"], "b.jpg": [], "c.jpg": ["dog"]}
    assert examples(f"manifest:{file}") == expected
    with pytest.raises(ConfigError, match=r"multi_label=False, but a.jpg has the labels cat, dog"):
        open_dataset(f"manifest:{file}", multi_label=False)
    file = write(root, "n.csv", "path,label\na.jpg,cat;dog\nb.jpg,\nc.jpg,dog\n")
    assert examples(f"manifest:{file}", separator=";") == expected
    lines = '{"path": "a.jpg", "label": ["cat", "dog"]}\n{"path": "b.jpg", "label": null}\n'
    file = write(root, "m.jsonl", lines + '{"path": "c.jpg", "label": ["dog"]}\n')
    assert examples(f"manifest:{file}") == expected


def test_a_list_of_one_label_is_multi_label(pictures):
    root = pictures("a.jpg", "b.jpg")
    file = write(root, "m.jsonl", '{"path":"a.jpg","label":["x"]}\n{"path":"b.jpg","label":["y"]}')
    assert open_dataset(f"manifest:{file}").open("train").multi_label is True
    assert open_dataset(f"manifest:{file}", multi_label=False).open("train").multi_label is False
    assert problems(
        f"manifest:{write(root, 'e.csv', 'path,label' + chr(10) + 'a.jpg,')}"
    ).counts == {kinds.UNLABELED: 1}
    empty = write(root, "e.csv", "path,label\na.jpg,x\nb.jpg,\n")
    assert examples(f"manifest:{empty}", multi_label=True) == {"a.jpg": ["x"], "b.jpg": []}


def test_splits_of_a_manifest(pictures):
    root = pictures("a.jpg", "b.jpg", "c.jpg")
    file = write(root, "m.csv", "path,label,Split\na.jpg,x,Training\nb.jpg,x,valid\nc.jpg,x,TEST\n")
    for split, name in (("train", "a.jpg"), ("validation", "b.jpg"), ("test", "c.jpg")):
        assert create_source(f"manifest:{file}", split).name(0) == str(root / name)
    file = write(root, "m.csv", "path,label,split\na.jpg,x,train\nb.jpg,x,trian\nc.jpg,x,\n")
    found = problems(f"manifest:{file}")
    assert found.names == {
        kinds.MALFORMED: [
            "m.csv line 3 has the unknown split 'trian'",
            "c.jpg has no split, but others have one",
        ]
    }
    assert (
        "[a split is one of train, training, val, valid, validation, validate, dev, eval, test"
        in (str(found))
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "m.csv",
            "image,kind\na.jpg,x\n",
            r"m.csv: line 1: no column for the label; it has image, kind",
        ),
        (
            "m.csv",
            "a.jpg,x\n",
            r"line 1: no column for the path; it has a.jpg, x, expected one of path",
        ),
        ("m.csv", "", "line 1: no column for the path; it has none"),
        ("m.csv", 'path,label\n"a.jpg"x,y\n', "m.csv: line 2: .*expected cells separated by ','"),
        ("m.csv", b"path,label\na.jpg,caf\xe9\n", "m.csv: is not UTF-8"),
        ("m.jsonl", '{"path": "a.jpg", "label": 1}\n{"path": ', "m.jsonl: line 2, column 10"),
        ("m.jsonl", '{"path": "a.jpg"}\n', "m.jsonl: no column for the label; it has path"),
        ("m.txt", "a.jpg x", r"ends in .csv, .tsv or .jsonl"),
    ],
)
def test_malformed_manifest(pictures, name, content, message):
    file = write(pictures("a.jpg"), name, content)
    for on_error in ("fail", "skip"):
        with pytest.raises(ConfigError, match=message):
            open_dataset(f"manifest:{file}", on_error=on_error)


def test_malformed_rows(pictures):
    root = pictures("a.jpg", "b.jpg")
    file = write(root, "m.csv", 'path,label\na.jpg,x\nb.jpg\n,x\nb.jpg,"x\ny"\nb.jpg,x,z\n')
    found = problems(f"manifest:{file}")
    assert found.counts == {kinds.MALFORMED: 4}
    assert found.names[kinds.MALFORMED] == [
        "m.csv line 3 has 1 cells, not 2",
        "m.csv line 4 has no path",
        "b.jpg has a label that is not a line of text",
        "m.csv line 7 has 3 cells, not 2",
    ]
    file = write(root, "m.jsonl", '{"path":"a.jpg","label":"x"}\n[1]\n{"label":"x"}\n')
    assert problems(f"manifest:{file}").counts == {kinds.MALFORMED: 2}
