"""COCO files: the labels of an image are the categories of its annotations."""

import os

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import create_source, open_dataset
from imgcls.data.table import problems as kinds
from tests.data.formats.cases import examples, problems, write


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
            "annotation 3 has the unknown image 9",
            "2 images have the id 4",
            "image 7 has no file_name",
        ],
        kinds.UNLABELED: ["3.jpg"],
    }
    data = open_dataset(f"coco:{root / 'c.json'}", on_error="skip", multi_label=True)
    sources = [data.open(split) for split in data.splits]
    left = {os.path.basename(s.name(i)) for s in sources for i in range(len(s))}
    assert left == {"1.jpg", "3.jpg"}
    del content["categories"]
    with pytest.raises(
        ConfigError, match="c.json: has no list of objects 'categories'; expected COCO"
    ):
        open_dataset(f"coco:{write(root, 'c.json', content)}")


def test_categories_that_are_only_parents(pictures, capsys):
    """They are not classes unless an image has them; other categories without images are."""
    root = pictures("1.jpg", "2.jpg")
    names = {0: "animals", 1: "cat", 2: "dog", 3: "cow"}
    content = coco({1: "1.jpg", 2: "2.jpg"}, [(1, 1), (2, 2)], names)
    for category in content["categories"]:
        category["supercategory"] = "animals" if category["id"] else "none"
    spec = f"coco:{write(root, 'c.json', content)}"
    assert open_dataset(spec).open("train").class_names == ("cat", "cow", "dog")
    err = capsys.readouterr().err
    assert f"{spec}: not classes, as they only group others and no image has them: 'animals'" in err
    content["annotations"][0]["category_id"] = 0
    write(root, "c.json", content)
    assert open_dataset(spec).open("train").class_names == ("animals", "cat", "cow", "dog")
    # In flat files a category may be its own parent.
    content["annotations"][0]["category_id"] = 1
    content["categories"][3]["supercategory"] = "cow"
    write(root, "c.json", content)
    assert open_dataset(spec).open("train").class_names == ("cat", "cow", "dog")
