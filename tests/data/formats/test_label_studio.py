"""Label Studio's exports: votes, questions and paths."""

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import create_source, open_dataset
from imgcls.data.table import problems as kinds
from tests.data.formats.cases import examples, problems, write


def task(image: str, *votes, key: str = "annotations", **data) -> dict:
    """A task with one annotation per vote; a vote is a list of names, or an annotation."""
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
    data = open_dataset(f"labelstudio:{file}")
    sources = [data.open(split) for split in data.splits]
    passed_over = {"rectanglelabels": 1, "cancelled annotation": 1}
    assert sources[0].problems.passed_over == passed_over
    found = {s.name(i): s.metadata(i) for s in sources for i in range(len(s))}
    assert found[str(root / "x/d.jpg")] == {"note": "late"}


def test_file_names_of_several_images(pictures):
    """The folders of a URL decide; without folders the name is ambiguous."""
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
    assert found.names == {kinds.TIE: ["a.jpg"], kinds.UNLABELED: ["c.jpg"]}
    several = [
        task("a.jpg", ["x", "y"], ["y"], ["y", "z"], ["x"]),
        task("b.jpg", ["x"], ["y"]),
        task("c.jpg", [], ["z"]),
        task("d.jpg", ["x", "z"], ["z", "x"], ["x"]),
    ]
    file = write(root, "t.json", several)
    # x has two of a.jpg's four votes, which is not more than half.
    expected = {"a.jpg": ["y"], "b.jpg": [], "c.jpg": [], "d.jpg": ["x", "z"]}
    assert examples(f"labelstudio:{file}") == expected
    with pytest.raises(ConfigError, match="multi_label=False, but d.jpg has the labels x, z"):
        open_dataset(f"labelstudio:{file}", multi_label=False)


def test_label_studio_with_two_questions(pictures):
    root = pictures("a.jpg")
    results = [
        {"type": "choices", "from_name": name, "value": {"choices": [choice]}}
        for name, choice in (("animal", "cat"), ("quality", "good"))
    ]
    file = write(root, "t.json", [task("a.jpg", {"result": results})])
    with pytest.raises(ConfigError, match=r"for 2 questions \(animal, quality\)"):
        open_dataset(f"labelstudio:{file}")
    assert examples(f"labelstudio:{file}", multi_label=True) == {"a.jpg": ["cat", "good"]}


def test_one_question_of_several(pictures):
    root = pictures("a.jpg", "b.jpg")

    def vote(**choices: str) -> dict:
        results = [
            {"type": "choices", "from_name": name, "value": {"choices": [choice]}}
            for name, choice in choices.items()
        ]
        return {"result": results}

    tasks = [task("a.jpg", vote(animal="cat", quality="good")), task("b.jpg", vote(animal="dog"))]
    spec = f"labelstudio:{write(root, 't.json', tasks)}"
    with pytest.raises(
        ConfigError, match=r"questions \(animal, quality\); name one with config.data.q"
    ):
        open_dataset(spec)
    assert examples(spec, question="animal") == {"a.jpg": ["cat"], "b.jpg": ["dog"]}
    # Without an answer to the question an image has no label.
    assert problems(spec, question="quality").names == {kinds.UNLABELED: ["b.jpg"]}
    found = examples(spec, question="quality", multi_label=True)
    assert found == {"a.jpg": ["good"], "b.jpg": []}
    message = (
        "question='anmal': has no such choices; did you mean 'animal'.; it has animal, quality"
    )
    with pytest.raises(ConfigError, match=message):
        open_dataset(spec, question="anmal")
    rows = [{"id": i, "image": f, "animal": "cat", "note": "x"} for i, f in enumerate(["a.jpg"])]
    spec = f"labelstudio:{write(root, 'min.json', rows)}"
    with pytest.raises(
        ConfigError, match="which of animal, note is the label; name it with config"
    ):
        open_dataset(spec)
    assert examples(spec, question="animal") == {"a.jpg": ["cat"]}


def test_boxes_in_place_of_choices(pictures):
    """They are named by type, in both forms of the export."""
    root = pictures("a.jpg", "b.jpg")
    box = {"type": "rectanglelabels", "from_name": "kind", "value": {"rectanglelabels": ["nose"]}}
    key = {"type": "keypointlabels", "from_name": "kind", "value": {"keypointlabels": ["eye"]}}
    full = [task("a.jpg", {"result": [box, key]}), task("b.jpg", {"result": [box]})]
    short = [
        {"id": 1, "image": "a.jpg", "label": [box["value"], key["value"]]},
        {"id": 2, "image": "b.jpg", "label": [box["value"]]},
    ]
    message = (
        r"2 x image without a label \(a.jpg, b.jpg\) "
        r"\[passed over, as they label no image: 2 x rectanglelabels, 1 x keypointlabels\]"
    )
    for name, content in (("full.json", full), ("min.json", short)):
        spec = f"labelstudio:{write(root, name, content)}"
        with pytest.raises(ConfigError, match=message):
            open_dataset(spec)


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
        open_dataset(f"labelstudio:{file}")


def test_splits_in_the_data(pictures):
    """They count where each task has one."""
    root = pictures("a.jpg", "b.jpg", "c.jpg")
    tasks = [
        task("a.jpg", ["x"], split="train"),
        task("b.jpg", ["y"], split="Validation"),
        task("c.jpg", ["y"], split="test"),
    ]
    data = open_dataset(f"labelstudio:{write(root, 't.json', tasks)}")
    assert data.splits == ("train", "val", "test")
    assert [len(data.open(split)) for split in data.splits] == [1, 1, 1]
    assert data.open("val").metadata(0) == {}
    tasks[1]["data"]["split"] = "left"
    data = open_dataset(f"labelstudio:{write(root, 't.json', tasks)}")
    sources = [data.open(split) for split in data.splits]
    found = {source.metadata(i)["split"] for source in sources for i in range(len(source))}
    assert found == {"train", "left", "test"}
