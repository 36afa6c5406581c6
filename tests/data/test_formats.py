"""Label files as tools and people write them: what is read, and what is said of a wrong one."""

import json
import os

import pytest

from imgcls.data import problems as kinds
from imgcls.data.sources import create_source, open_data_set
from imgcls.errors import ConfigError


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Makes files that are there, which is all that opening asks for."""

    def make(*paths: str):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(path.encode())
        return tmp_path

    return make


def write(folder, name: str, content) -> str:
    """A file of text, bytes or JSON; returns its path."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


def examples(spec: str, **options) -> dict[str, list[str]]:
    """`{path from the root: labels}` of all splits."""
    data, found = open_data_set(spec, **options), {}
    root = options.get("data_dir") or os.path.dirname(spec.partition(":")[2])
    for split in data.splits:
        source = data.open(split)
        for i, label in enumerate(source.labels()):
            numbers = label.nonzero()[0] if source.multi_label else [label]
            path = os.path.relpath(source.name(i), root)
            found[path] = [source.class_names[n] for n in numbers]
            assert source[i]["image"].decode().endswith(path)
    return found


def problems(spec: str, **options):
    """What the skipping source counted, after the strict one refused."""
    with pytest.raises(ConfigError, match="mend the file or set config.data.on_error=skip"):
        open_data_set(spec, **options)
    data = open_data_set(spec, on_error="skip", **options)
    return data.open(data.splits[0]).problems


# ---- Manifests.


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
    os.remove(root / "classes.txt")
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
        open_data_set(f"manifest:{file}", multi_label=False)
    file = write(root, "n.csv", "path,label\na.jpg,cat;dog\nb.jpg,\nc.jpg,dog\n")
    assert examples(f"manifest:{file}", separator=";") == expected
    lines = '{"path": "a.jpg", "label": ["cat", "dog"]}\n{"path": "b.jpg", "label": null}\n'
    file = write(root, "m.jsonl", lines + '{"path": "c.jpg", "label": ["dog"]}\n')
    assert examples(f"manifest:{file}") == expected


def test_a_list_of_one_label_is_multi_label(pictures):
    root = pictures("a.jpg", "b.jpg")
    file = write(root, "m.jsonl", '{"path":"a.jpg","label":["x"]}\n{"path":"b.jpg","label":["y"]}')
    assert open_data_set(f"manifest:{file}").open("train").multi_label is True
    assert open_data_set(f"manifest:{file}", multi_label=False).open("train").multi_label is False
    assert problems(
        f"manifest:{write(root, 'e.csv', 'path,label' + chr(10) + 'a.jpg,')}"
    ).counts == {kinds.UNLABELLED: 1}
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
            "c.jpg has no split, others have",
        ]
    }


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
        ("m.csv", 'path,label\n"a.jpg"x,y\n', "m.csv: line 2: .*expected cells divided by ','"),
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
            open_data_set(f"manifest:{file}", on_error=on_error)


def test_malformed_rows(pictures):
    root = pictures("a.jpg", "b.jpg")
    file = write(root, "m.csv", 'path,label\na.jpg,x\nb.jpg\n,x\nb.jpg,"x\ny"\nb.jpg,x,z\n')
    found = problems(f"manifest:{file}")
    assert found.counts == {kinds.MALFORMED: 4}
    assert found.names[kinds.MALFORMED] == [
        "m.csv line 3 has 1 cells, not 2",
        "m.csv line 4 names no picture",
        "b.jpg has a label of two lines",
        "m.csv line 7 has 3 cells, not 2",
    ]
    file = write(root, "m.jsonl", '{"path":"a.jpg","label":"x"}\n[1]\n{"label":"x"}\n')
    assert problems(f"manifest:{file}").counts == {kinds.MALFORMED: 2}


# ---- A file for each split.


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "val.tsv", "test.csv"),
        ("my_training_2.csv", "Validation-set.csv", "labels test.csv"),
        ("train/labels.csv", "valid/labels.csv", "testing/labels.csv"),
    ],
)
def test_files_for_splits(pictures, names):
    root = pictures(*(os.path.join(os.path.dirname(n), f"{i}.jpg") for i, n in enumerate(names)))
    for i, name in enumerate(names):
        delimiter = "\t" if name.endswith("tsv") else ","
        write(root, name, f"path{delimiter}label\n{i}.jpg{delimiter}x\n")
    write(root, "sample_submission.csv", "id,answer\n1,2\n")
    for i, split in enumerate(("train", "val", "test")):
        source = create_source(f"manifest:{root}", split)
        expected = str(root / os.path.dirname(names[i]) / f"{i}.jpg")
        assert [source.name(j) for j in range(len(source))] == [expected]
        assert source.splits == ("train", "val", "test")
    assert (root / "classes.txt").read_text() == "x\n"


def test_a_column_says_more_than_the_name_of_its_file(pictures):
    root = pictures("a.jpg", "b.jpg")
    write(root, "train.csv", "path,label,split\na.jpg,x,\nb.jpg,x,test\n")
    assert create_source(f"manifest:{root}", "train").name(0) == str(root / "a.jpg")
    assert create_source(f"manifest:{root}", "test").name(0) == str(root / "b.jpg")


def test_directories_that_are_unclear(pictures):
    root = pictures("a.jpg")
    with pytest.raises(ConfigError, match="holds no .csv or .tsv or .jsonl file"):
        open_data_set(f"manifest:{root}")
    write(root, "some.csv", "path,label\na.jpg,x\n")
    assert examples(f"manifest:{root}", data_dir=str(root)) == {"a.jpg": ["x"]}
    write(root, "other.csv", "path,label\na.jpg,x\n")
    with pytest.raises(ConfigError, match="some.csv is not the only file for all splits"):
        open_data_set(f"manifest:{root}")
    write(root, "train.csv", "path,label\na.jpg,x\n")
    write(root, "training.csv", "path,label\na.jpg,x\n")
    with pytest.raises(
        ConfigError, match="training.csv is not the only file for the split 'train'"
    ):
        open_data_set(f"manifest:{root}")


@pytest.mark.parametrize("kind", ["manifest", "darwin", "labelstudio", "coco"])
def test_missing_file(kind, tmp_path):
    with pytest.raises(ConfigError, match=f"{kind}:{tmp_path}/no: no such file or directory"):
        open_data_set(f"{kind}:{tmp_path}/no")
    file = write(tmp_path, "m.csv", "path,label\n")
    with pytest.raises(ConfigError, match="config.data.dir=/no/such: no such directory or zip"):
        open_data_set(f"{kind}:{file}", data_dir="/no/such")


@pytest.mark.parametrize("kind", ["darwin", "labelstudio", "coco"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1,\n "b" 2}', "line 2, column 6"),
        ("[1, 2]", "expected"),
        (b"\xff\xfe", "can't be read"),
    ],
)
def test_malformed_json(kind, content, message, tmp_path):
    file = write(tmp_path, "all.json", content)
    with pytest.raises(ConfigError, match=message) as error:
        open_data_set(f"{kind}:{file}", on_error="skip")
    assert file in str(error.value) and "expected" in str(error.value)


# ---- Darwin.


def darwin(name: str, *annotations: dict, path: str = "/") -> dict:
    return {"version": "2.0", "item": {"name": name, "path": path}, "annotations": [*annotations]}


def tag(name: str, **details) -> dict:
    return {"id": "1", "name": name, "slot_names": ["0"], "tag": {}, **details}


def test_darwin(pictures):
    root = pictures("pics/cats/a.jpg", "pics/b.jpg", "pics/c.jpg")
    properties = [{"name": "age", "value": "old", "frame_index": None}]
    attributes = {"attributes": {"attributes": ["furry"]}, "text": {"text": "lazy"}}
    box = {"id": "2", "name": "nose", "bounding_box": {"x": 1, "y": 2, "w": 3, "h": 4}}
    line = {"id": "3", "name": "edge", "polygon": {"paths": []}, "properties": properties}
    first = tag(" cat ", properties=properties, **attributes)
    write(root, "release/x/1.json", darwin("a.jpg", box, first, line, path="/cats"))
    write(root, "release/2.json", darwin("b.jpg", tag("dog"), box))
    write(root, "release/y/3.json", darwin("c.jpg", tag("dog")))
    write(root, "release/.v7/metadata.json", {"classes": []})
    spec, options = f"darwin:{root / 'release'}", dict(data_dir=str(root / "pics"))
    assert examples(spec, **options) == {"cats/a.jpg": ["cat"], "b.jpg": ["dog"], "c.jpg": ["dog"]}
    data = open_data_set(spec, **options)
    sources = [data.open(split) for split in data.splits]
    assert sources[0].problems.passed_over == {"bounding_box": 2, "polygon": 1}
    found = {s.name(i): s.metadata(i) for s in sources for i in range(len(s))}
    metadata = {key: {"cat": value} for key, value in attributes.items()}
    metadata["properties"] = {"cat": properties}
    assert found[str(root / "pics/cats/a.jpg")] == metadata
    assert found[str(root / "pics/b.jpg")] == {}
    assert (root / "release" / "classes.txt").read_text() == "cat\ndog\n"


def test_darwin_in_one_file(pictures):
    root = pictures("a.jpg", "b.jpg")
    both = [darwin("a.jpg", tag("x"), tag("y")), darwin("b.jpg")]
    file = write(root, "all.json", both)
    assert examples(f"darwin:{file}") == {"a.jpg": ["x", "y"], "b.jpg": []}
    file = write(root, "one.json", darwin("b.jpg", tag("x")))
    assert examples(f"darwin:{file}") == {"b.jpg": ["x"]}
    file = write(root, "old.json", {"image": {"filename": "a.jpg"}, "annotations": []})
    with pytest.raises(ConfigError, match="old.json: is Darwin JSON 1.0; export the data set as"):
        open_data_set(f"darwin:{file}")


def test_darwin_folder_with_a_bad_file(pictures):
    root = pictures("a.jpg")
    write(root, "d/1.json", darwin("a.jpg", tag("x")))
    write(root, "d/2.json", "{")
    write(root, "d/3.json", darwin("a.jpg", {"tag": {}}))
    found = problems(f"darwin:{root / 'd'}", data_dir=str(root))
    assert found.counts == {kinds.MALFORMED: 2}
    assert "2.json: line 1, column 2" in found.names[kinds.MALFORMED][0]
    os.mkdir(root / "empty")
    with pytest.raises(ConfigError, match="holds no .json file"):
        open_data_set(f"darwin:{root / 'empty'}")


# ---- Label Studio.


def task(image: str, *votes, key: str = "annotations", **data) -> dict:
    """A task with an annotation for each vote: names, or a whole annotation."""
    annotations = []
    for vote in votes:
        choice = {"type": "choices", "from_name": "kind", "value": {"choices": vote}}
        annotations.append(vote if isinstance(vote, dict) else {"result": [choice]})
    return {"id": len(image), "data": {"image": image, **data}, key: annotations}


def test_label_studio(pictures):
    root = pictures("x/a.jpg", "x/b c.jpg", "x/d.jpg", "x/0123abcd-e.jpg", "x/f.jpg", "x/g.jpg")
    box = {"type": "rectanglelabels", "value": {"rectanglelabels": ["nose"]}}
    skipped = {"was_cancelled": True, "result": []}
    tasks = [
        task("/data/local-files/?d=x/a.jpg", ["cat"], {"result": [box]}),
        task("https://host/some/b%20c.jpg?token=1", ["cat"], ["dog"], ["dog"]),
        task("/data/upload/7/89abcdef-d.jpg", ["dog"], skipped, note="late"),
        task("/data/upload/7/0123abcd-e.jpg", ["dog"], key="completions"),
        task("s3://bucket/f.jpg", ["dog"]),
        task("g.jpg", [" cat "]),
    ]
    file = write(root, "tasks.json", tasks)
    expected = {"x/a.jpg": ["cat"], "x/b c.jpg": ["dog"], "x/d.jpg": ["dog"]}
    expected |= {"x/0123abcd-e.jpg": ["dog"], "x/f.jpg": ["dog"], "x/g.jpg": ["cat"]}
    assert examples(f"labelstudio:{file}") == expected
    data = open_data_set(f"labelstudio:{file}")
    sources = [data.open(split) for split in data.splits]
    passed_over = {"rectanglelabels": 1, "cancelled annotation": 1}
    assert sources[0].problems.passed_over == passed_over
    found = {s.name(i): s.metadata(i) for s in sources for i in range(len(s))}
    assert found[str(root / "x/d.jpg")] == {"note": "late"}


def test_names_that_several_pictures_have(pictures):
    """The folders of a URL decide; without any it is a problem."""
    root = pictures("cat/1.jpg", "dog/1.jpg", "dog/2.jpg")
    tasks = [task("s3://bucket/deep/cat/1.jpg", ["cat"]), task("s3://bucket/1.jpg", ["dog"])]
    found = problems(f"labelstudio:{write(root, 't.json', [*tasks, task('2.jpg', ['dog'])])}")
    assert found.names == {kinds.AMBIGUOUS: ["bucket/1.jpg"]}
    del tasks[1]
    assert examples(f"labelstudio:{write(root, 't.json', tasks)}") == {"cat/1.jpg": ["cat"]}
    file = write(root, "t.json", [task("https://host/9.jpg", ["dog"]), *tasks])
    assert problems(f"labelstudio:{file}").names == {kinds.MISSING: ["host/9.jpg"]}


def test_label_studio_votes(pictures):
    root = pictures("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    tied = [
        task("a.jpg", ["x"], ["y"]),
        task("b.jpg", ["x"], ["y"], ["y"]),
        task("c.jpg"),
        task("d.jpg", ["x"]),
    ]
    found = problems(f"labelstudio:{write(root, 't.json', tied)}")
    assert found.names == {kinds.TIE: ["a.jpg"], kinds.UNLABELLED: ["c.jpg"]}
    several = [
        task("a.jpg", ["x", "y"], ["y"], ["y", "z"], ["x"]),
        task("b.jpg", ["x"], ["y"]),
        task("c.jpg", [], ["z"]),
        task("d.jpg", ["x", "z"], ["z", "x"], ["x"]),
    ]
    file = write(root, "t.json", several)
    os.remove(root / "classes.txt")
    # Of a.jpg's four votes x has two, which is not more than half.
    expected = {"a.jpg": ["y"], "b.jpg": [], "c.jpg": [], "d.jpg": ["x", "z"]}
    assert examples(f"labelstudio:{file}") == expected
    with pytest.raises(ConfigError, match="multi_label=False, but d.jpg has the labels x, z"):
        open_data_set(f"labelstudio:{file}", multi_label=False)


def test_label_studio_with_two_questions(pictures):
    root = pictures("a.jpg")
    results = [
        {"type": "choices", "from_name": name, "value": {"choices": [choice]}}
        for name, choice in (("animal", "cat"), ("quality", "good"))
    ]
    file = write(root, "t.json", [task("a.jpg", {"result": results})])
    with pytest.raises(ConfigError, match=r"for 2 questions \(animal, quality\)"):
        open_data_set(f"labelstudio:{file}")
    assert examples(f"labelstudio:{file}", multi_label=True) == {"a.jpg": ["cat", "good"]}


def test_json_min(pictures):
    root = pictures("a.jpg", "b.jpg")

    def row(image, number, **answer):
        about = {
            "id": number,
            "annotator": 1,
            "annotation_id": 5,
            "created_at": "",
            "lead_time": 1.5,
        }
        return {"photo": f"/data/upload/1/00aa11bb-{image}", "title": "t", **about, **answer}

    rows = [row("a.jpg", 1, choice="x"), row("a.jpg", 1, choice="y"), row("a.jpg", 1, choice="y")]
    file = write(root, "min.json", [*rows, row("b.jpg", 2, choice="x")])
    assert examples(f"labelstudio:{file}") == {"a.jpg": ["y"], "b.jpg": ["x"]}
    rows = [row("a.jpg", 1, mood={"choices": ["x", "y"]}), row("b.jpg", 2, mood="y")]
    file = write(root, "min.json", rows)
    assert examples(f"labelstudio:{file}") == {"a.jpg": ["x", "y"], "b.jpg": ["y"]}
    source = create_source(f"labelstudio:{file}", "train", multi_label=True)
    assert source.metadata(0) == {"title": "t"}
    file = write(root, "min.json", [row("a.jpg", 1, mood="x")])
    with pytest.raises(ConfigError, match="can't tell which of title, mood is the label"):
        open_data_set(f"labelstudio:{file}")


# ---- COCO.


def coco(images: dict, annotations: list, categories: dict) -> dict:
    """`{id: file}`, `[(image, category)]` and `{id: name}` as COCO writes them."""
    return {
        "images": [{"id": i, "file_name": f, "height": 2, "license": 3} for i, f in images.items()],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c} for n, (i, c) in enumerate(annotations)
        ],
        "categories": [{"id": i, "name": name} for i, name in categories.items()],
    }


def test_coco(pictures):
    root = pictures("train2017/1.jpg", "train2017/2.jpg", "val2017/3.jpg", "val2017/4.jpg")
    names = {90: "zebra", 1: "ant", 7: "cow"}
    train = coco({5: "1.jpg", 6: "2.jpg"}, [(6, 90), (5, 1), (6, 1), (6, 90)], names)
    val = coco({5: "3.jpg", 6: "4.jpg"}, [(6, 1)], names)
    for split, content in (("train", train), ("val", val)):
        write(root, f"annotations/instances_{split}2017.json", content)
        write(root, f"annotations/captions_{split}2017.json", {"no": "classes"})
    spec = f"coco:{root / 'annotations'}"
    expected = {"train2017/1.jpg": ["ant"], "train2017/2.jpg": ["ant", "zebra"]}
    expected |= {"val2017/3.jpg": [], "val2017/4.jpg": ["ant"]}
    assert examples(spec, data_dir=str(root)) == expected
    source = create_source(spec, "val", data_dir=str(root))
    assert source.class_names == ("ant", "cow", "zebra") and source.splits == ("train", "val")
    assert source.metadata(0) == {"license": 3}


def test_coco_problems(pictures):
    root = pictures("1.jpg", "2.jpg", "3.jpg")
    images = {1: "1.jpg", 2: "2.jpg", 3: "3.jpg"}
    content = coco(images, [(1, 1), (2, 8), (2, 1), (9, 1)], {1: "ant"})
    content["images"] += [
        {"id": 7},
        {"id": 4, "file_name": "4.jpg"},
        {"id": 4, "file_name": "5.jpg"},
    ]
    found = problems(f"coco:{write(root, 'c.json', content)}")
    assert found.names == {
        kinds.UNKNOWN: ["category 8 of 2.jpg"],
        kinds.MALFORMED: [
            "annotation 3 is of the unknown image 9",
            "2 images have the id 4",
            "image 7 has no file_name",
        ],
        kinds.UNLABELLED: ["3.jpg"],
    }
    data = open_data_set(f"coco:{root / 'c.json'}", on_error="skip", multi_label=True)
    sources = [data.open(split) for split in data.splits]
    left = {os.path.basename(s.name(i)) for s in sources for i in range(len(s))}
    assert left == {"1.jpg", "3.jpg"}
    del content["categories"]
    with pytest.raises(
        ConfigError, match="c.json: has no list of objects 'categories'; expected COCO"
    ):
        open_data_set(f"coco:{write(root, 'c.json', content)}")
