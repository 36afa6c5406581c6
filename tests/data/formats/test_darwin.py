"""Darwin JSON 2.0, as exported by V7."""

import os

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import open_dataset
from imgcls.data.table import problems as kinds
from tests.data.formats.cases import examples, problems, write


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
    data = open_dataset(spec, **options, write_classes=True)
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
    with pytest.raises(ConfigError, match="old.json: is Darwin JSON 1.0; export the dataset as"):
        open_dataset(f"darwin:{file}")


def test_darwin_folder_with_invalid_files(pictures):
    root = pictures("a.jpg")
    write(root, "d/1.json", darwin("a.jpg", tag("x")))
    write(root, "d/2.json", "{")
    write(root, "d/3.json", darwin("a.jpg", {"tag": {}}))
    found = problems(f"darwin:{root / 'd'}", data_dir=str(root))
    assert found.counts == {kinds.MALFORMED: 2}
    assert "2.json: line 1, column 2" in found.names[kinds.MALFORMED][0]
    os.mkdir(root / "empty")
    with pytest.raises(ConfigError, match="has no .json file"):
        open_dataset(f"darwin:{root / 'empty'}")


def test_images_in_a_folder_beside_the_annotations(pictures):
    """Images are found by name; where they are not, the message names the place and the option."""
    root = pictures("release/images/cats/a.jpg", "release/images/b.jpg")
    write(root, "release/ann/1.json", darwin("a.jpg", tag("cat"), path="/cats"))
    write(root, "release/ann/2.json", darwin("b.jpg", tag("dog"), path="/some/where"))
    expected = {"release/images/cats/a.jpg": ["cat"], "release/images/b.jpg": ["dog"]}
    assert examples(f"darwin:{root / 'release'}") == expected
    assert examples(f"darwin:{root / 'release/ann'}", data_dir=str(root)) == expected
    hint = rf"looked in {root}/release/ann; config.data.dir names the folder or zip of the images"
    with pytest.raises(ConfigError, match=rf"2 x missing image \(.*\) \[{hint}\]"):
        open_dataset(f"darwin:{root / 'release/ann'}")


def slot(name: str, *files: str, **keys) -> dict:
    return {"slot_name": name, "source_files": [{"file_name": f} for f in files], **keys}


def test_an_item_with_several_slots(pictures):
    """Each slot is an image with its own tags; a folder is not an image."""
    root = pictures("images/p/eye/left/l.jpg", "images/p/eye/right/r.jpg", "images/p/one.jpg")
    item = darwin("eye", tag("ill"), tag("well"), tag("old"), path="/p")
    for annotation, names in zip(item["annotations"], (["left"], ["right"], []), strict=True):
        annotation["slot_names"] = names
    item["item"]["slots"] = [
        *(slot("left", "l.jpg", type="image"), slot("right", "r.jpg")),
        slot("film", "f.mp4", type="video"),
    ]
    single = darwin("one.jpg", tag("ill"), path="/p")
    single["item"]["slots"] = [slot("0", "other.jpg")]
    file = write(root, "all.json", [item, single])
    expected = {"images/p/eye/left/l.jpg": ["ill", "old"], "images/p/one.jpg": ["ill"]}
    expected["images/p/eye/right/r.jpg"] = ["old", "well"]
    assert examples(f"darwin:{file}") == expected
    data = open_dataset(f"darwin:{file}")
    assert data.problems.passed_over == {"slot of type video": 1}
    sources = [data.open(split) for split in data.splits]
    found = {s.metadata(i).get("slot"): s.group(i) for s in sources for i in range(len(s))}
    assert found == {"left": "p/eye", "right": "p/eye", None: None}
    item["item"]["slots"] = [slot("left"), "x"]
    assert problems(f"darwin:{write(root, 'bad.json', [item, single])}").names == {
        kinds.MALFORMED: ["p/eye has a slot without a file name"] * 2
    }
    folder = darwin("eye", tag("ill"), path="/images/p")
    found = problems(f"darwin:{write(root, 'bad.json', [folder, single])}")
    assert found.names == {kinds.MISSING: ["images/p/eye"]}


def test_properties_of_an_item(pictures):
    """One named `split` is the split; the others are metadata."""
    root = pictures("a.jpg", "b.jpg", "c/0/d.jpg", "c/1/e.jpg")
    slots = [
        {"type": "image", "slot_name": str(n), "source_files": [{"file_name": name}]}
        for n, name in enumerate(("d.jpg", "e.jpg"))
    ]
    several = darwin("c", tag("y") | {"slot_names": []})
    several["item"]["slots"] = slots
    items = [darwin("a.jpg", tag("x")), darwin("b.jpg", tag("y")), several]
    for item, split in zip(items, ("Training", "val", "test"), strict=True):
        item["properties"] = [
            {"name": "Split", "value": split},
            {"name": "site", "value": "north"},
            {"name": "empty", "value": None},
        ]
    data = open_dataset(f"darwin:{write(root, 'all.json', items)}")
    assert data.splits == ("train", "val", "test")
    assert [len(data.open(split)) for split in data.splits] == [1, 1, 2]
    assert data.open("train").metadata(0) == {"site": "north"}
    assert data.open("test").metadata(0) == {"site": "north", "slot": "0"}
