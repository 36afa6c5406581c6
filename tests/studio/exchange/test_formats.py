"""What is exported is read by the trainer's sources, and comes back whole by an import."""

import json
import pathlib
import zipfile

import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import create_source
from imgcls.studio.exchange import collection as collections
from imgcls.studio.exchange import write
from imgcls.studio.exchange.collection import Collection, Example, Tag, file_paths
from imgcls.studio.exchange.read import read
from tests.studio.exchange.cases import collect, comparable

LABELS = [name for name in write.FORMATS if name != "links"]


@pytest.fixture(scope="module", params=[False, True], ids=["single", "multi"])
def collection(request, shared_data, tmp_path_factory) -> Collection:
    return collect(shared_data, tmp_path_factory.mktemp("cifar"), request.param)


def _open(collection: Collection, name: str, folder: pathlib.Path, split: str):
    options = dict(
        a.removeprefix("--config.data.").split("=", 1)
        for a in write.command(collection, name, str(folder))
    )
    return create_source(
        options["source"], split, data_dir=options.get("dir"), multi_label=collection.multi_label
    )


@pytest.mark.parametrize("name", LABELS)
def test_the_trainer_reads_what_is_exported(name, collection, tmp_path):
    folder = tmp_path / "out"
    assert write.write(collection, name, folder, "link") == 24
    paths = file_paths(collection.examples)
    for split in ("train", "val", "test"):
        source = _open(collection, name, folder, split)
        assert source.class_names == ("truck", "airplane", "cat")
        assert source.multi_label == collection.multi_label
        expected = sorted(
            (path, e)
            for path, e in zip(paths, collection.examples, strict=True)
            if e.split == split
        )
        assert len(source) == len(expected)
        for i, (path, example) in enumerate(expected):
            # In the order of the paths in every format, so that training has the same batches.
            assert source.name(i).endswith(f"images/{path}")
            assert source[i]["image"] == pathlib.Path(example.file).read_bytes()
            names = {tag.name for tag in example.tags}
            hot = np.array([n in names for n in source.class_names])
            got = source[i]["label"]
            assert (got == hot).all() if source.multi_label else got == hot.argmax()


@pytest.mark.parametrize("name", LABELS)
def test_an_export_comes_back_whole(name, collection, tmp_path):
    write.write(collection, name, tmp_path / "out", "copy")
    back = read(str(tmp_path / "out"))
    assert back.problems == []
    assert comparable(back.examples) == comparable(collection.examples)
    assert back.classes == collection.classes
    assert back.multi_label == collection.multi_label
    assert all(example.file for example in back.examples)


def test_labels_alone_come_back_without_images(collection, tmp_path):
    write.write(collection, "jsonl", tmp_path / "out", "none")
    back = read(str(tmp_path / "out" / "manifest.jsonl"))
    assert comparable(back.examples) == comparable(collection.examples)
    assert not any(example.file for example in back.examples)
    assert {a.name: a.kind for c in back.classes if c.name == "cat" for a in c.attributes} == {
        "attributes": "choices",
        "view": "choice",
        "parts": "choices",
        "young": "yes_no",
        "weight": "number",
        "note": "choice",
    }


def test_folders_of_links(shared_data, tmp_path):
    single = collect(shared_data, tmp_path / "cifar", plain=True)
    write.write(single, "links", tmp_path / "out", "link")
    source = create_source(f"folder:{tmp_path / 'out'}", "train")
    assert source.class_names == ("truck", "airplane", "cat")
    assert len(source) == sum(e.split == "train" for e in single.examples)
    back = read(str(tmp_path / "out"))
    # The links lead to files outside of the directory, which an import does not read.
    assert not any(example.file for example in back.examples)
    write.write(single, "links", tmp_path / "copy", "copy")
    back = read(str(tmp_path / "copy"))
    assert comparable(back.examples) == comparable(single.examples)


def test_folders_hold_one_tag(shared_data, tmp_path):
    multi = collect(shared_data, tmp_path / "cifar", multi_label=True)
    with pytest.raises(ConfigError, match="has .* tags, and a folder stands for one"):
        write.write(multi, "links", tmp_path / "out", "link")


def test_a_zip_has_the_images_themselves(shared_data, tmp_path):
    single = collect(shared_data, tmp_path / "cifar", plain=True)
    write.write(single, "coco", tmp_path / "out", "link")
    write.zip_folder(tmp_path / "out", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "unzipped")
    back = read(str(tmp_path / "unzipped"))
    assert comparable(back.examples) == comparable(single.examples)


def test_nothing_is_lost_from_darwin_to_darwin(tmp_path):
    """Files as V7 exports them, which this project did not write."""
    release = tmp_path / "release"
    release.mkdir()
    items = [_v7_item(number) for number in range(4)]
    for number, item in enumerate(items):
        (release / f"{number}.json").write_text(json.dumps(item))
    back = read(str(release))
    assert back.format == "darwin" and back.problems == []
    whole = Collection("mine", True, back.classes, back.examples)
    write.write(whole, "darwin", tmp_path / "out", "none")
    written = sorted((tmp_path / "out" / "annotations").rglob("*.jpg.json"))
    assert [_of_darwin(json.loads(f.read_text())) for f in written] == [
        _of_darwin(item) for item in sorted(items, key=lambda i: i["item"]["path"])
    ]
    again = read(str(tmp_path / "out" / "annotations"))
    assert comparable_without_files(again.examples) == comparable_without_files(back.examples)
    assert again.classes == back.classes


def comparable_without_files(examples):
    return sorted((e.folder, e.name, e.split, e.tags) for e in examples)


def _v7_item(number: int) -> dict:
    tags = [
        {
            "id": f"00000000-0000-0000-0000-00000000000{number}",
            "name": "cat",
            "slot_names": ["0"],
            "tag": {},
            "attributes": ["occluded", "night"],
            "text": {"text": f"sleeping in box {number}"},
            "properties": [
                {"name": "view", "value": "side", "frame_index": None},
                {"name": "parts", "value": "head", "frame_index": None},
                {"name": "parts", "value": "tail", "frame_index": None},
            ],
        },
        {"id": "1", "name": "indoors", "slot_names": ["0"], "tag": {}},
    ]
    slot = {"type": "image", "slot_name": "0", "width": 32, "height": 32}
    return {
        "version": "2.0",
        "item": {
            "name": "1.jpg",
            "path": f"/site {number}/day",
            "source_info": {"item_id": str(number), "dataset": {"name": "mine", "slug": "mine"}},
            "slots": [slot | {"source_files": [{"file_name": "1.jpg"}]}],
        },
        "annotations": tags[: 1 + number % 2],
        "properties": [{"name": "Split", "value": ("train", "val", "test")[number % 3]}],
    }


def _of_darwin(content: dict) -> tuple:
    item = content["item"]
    splits = [p["value"] for p in content["properties"] if p["name"].lower() == "split"]
    tags = [
        (
            tag["name"],
            tag.get("attributes"),
            tag.get("text"),
            sorted((p["name"], p["value"]) for p in tag.get("properties", [])),
        )
        for tag in content["annotations"]
    ]
    return item["path"], item["name"], splits, sorted(tags, key=lambda tag: tag[0])


def test_other_annotations_are_counted(tmp_path):
    item = _v7_item(0)
    item["annotations"].append({"id": "2", "name": "box", "bounding_box": {"x": 1}})
    (tmp_path / "one.json").write_text(json.dumps([item]))
    assert read(str(tmp_path / "one.json")).problems == [
        "1 x annotation that is not a tag (1 x bounding_box)"
    ]


def test_the_text_of_a_collection_does_not_depend_on_the_order(collection):
    shuffled = Collection(
        collection.name, collection.multi_label, collection.classes, collection.examples[::-1]
    )
    text = collections.to_json(collection)
    assert collections.to_json(shuffled) == text
    assert comparable(collections.from_json(text).examples) == comparable(collection.examples)


@pytest.mark.parametrize(
    "folder, name, path",
    [
        ("../../etc", "passwd.jpg", "etc/passwd.jpg"),
        ("/abs", "a\x00b.jpg", "abs/a_b.jpg"),
        ("C:\\win", "..", "C_/win/0123456789ab.jpg"),
        ("", "photo", "photo.jpg"),
        ("", "ok.JPEG", "ok.JPEG"),
        ("a//b/.", ".hidden.jpg", "a/b/hidden.jpg"),
        ("", "x" * 300 + ".jpg", "x" * 196 + ".jpg"),
    ],
)
def test_names_become_paths_that_stay_inside(folder, name, path):
    example = Example(name, folder, (Tag("cat"),), sha256="0123456789abcdef", file="/p/01.jpg")
    assert file_paths([example]) == [path]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.json", '{"hello": 1}', "its content is not known"),
        ("a.json", "[1", "expected Darwin JSON 2.0, Label Studio's JSON, or COCO"),
        ("a.exe", "MZ", "is not a file of labels"),
        ("a.json", '{"image": {}, "annotations": []}', "Darwin JSON 1.0"),
        ("a.csv", "a,b\n1,2\n", "no column for the path"),
    ],
)
def test_other_files_are_refused_in_one_line(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        read(str(tmp_path / name))


def test_labels_in_two_formats_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("path,label\n1.jpg,cat\n")
    (tmp_path / "b.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(ConfigError, match="labels in 2 formats"):
        read(str(tmp_path))
