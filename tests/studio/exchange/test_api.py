"""Export and import by the API: nothing is lost on the way, and training gives the same bits."""

import io
import json
import pathlib
import uuid
import zipfile
from dataclasses import replace

import jax
import numpy as np
import pytest

from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import load_trained
from imgcls.studio.exchange import write
from imgcls.studio.exchange.collection import Collection
from imgcls.studio.exchange.read import read
from imgcls.studio.learning import recipes
from tests.studio.exchange.cases import collect, comparable
from tests.studio.exchange.test_formats import LABELS, _of_darwin, _v7_item
from tests.studio.learning.server import TINY, Api, fill, read_images, serve


@pytest.fixture
def api(tmp_path):
    with serve(tmp_path / "home") as api:
        yield api


def _import(api: Api, dataset: int, name: str, data: bytes, status: int = 200, **query) -> dict:
    found = api.client.post(
        f"/api/datasets/{dataset}/import",
        params={"request_id": str(uuid.uuid4()), **query},
        files={"file": (name, data)},
    )
    assert found.status_code == status, found.text
    return found.json()


def _zipped(folder: pathlib.Path) -> bytes:
    write.zip_folder(folder, folder.with_suffix(".zip"))
    return folder.with_suffix(".zip").read_bytes()


def _export(api: Api, version: int, name: str, folder: pathlib.Path, **query) -> pathlib.Path:
    found = api.client.get(f"/api/versions/{version}/export", params={"format": name, **query})
    assert found.status_code == 200, found.text
    zipfile.ZipFile(io.BytesIO(found.content)).extractall(folder)
    return folder


@pytest.mark.parametrize("name", ["darwin", "coco", "manifest"])
def test_nothing_is_lost_through_the_studio(name, api, shared_data, tmp_path):
    """Images, tags, attributes, texts, folders, splits and comments: in and out again."""
    before = collect(shared_data, tmp_path / "cifar", multi_label=True)
    write.write(before, name, tmp_path / "in", "copy")
    dataset = api.post("datasets", name="pets", kind="multi")["id"]
    brought = _import(api, dataset, "in.zip", _zipped(tmp_path / "in"))
    assert (brought["images"], brought["added"], brought["classes"]) == (24, 24, 4)
    assert brought["unmatched"] == brought["unreadable"] == brought["problems"] == []
    version = api.post(f"datasets/{dataset}/versions")["id"]
    after = read(str(_export(api, version, name, tmp_path / "out")))
    assert comparable(after.examples) == comparable(before.examples)
    # The studio gives free hotkeys to classes without one.
    given = [
        replace(c, hotkey=b.hotkey or None)
        for c, b in zip(after.classes, before.classes, strict=True)
    ]
    assert given == list(before.classes)
    assert [c.hotkey for c in after.classes if c.name in ("truck", "cat")] == ["t", "c"]
    files = [f.relative_to(tmp_path / "in") for f in sorted((tmp_path / "in").rglob("*.json"))]
    if name == "darwin":
        for file in files:
            texts = [(tmp_path / side / file).read_text() for side in ("in", "out")]
            contents = [json.loads(text) for text in texts]
            if "item" in contents[0]:
                assert _of_darwin(contents[0]) == _of_darwin(contents[1])


def test_tags_of_v7_for_images_that_are_there(api, shared_data, tmp_path):
    """Labels without images are matched by folder and name; undo takes them back."""
    (_, first), (_, second) = read_images(shared_data, tmp_path / "cifar", 1)[:2]
    dataset = api.post("datasets", name="pets", kind="multi")["id"]
    ids = api.upload(dataset, [("site 0/day/1.jpg", first), ("site 1/day/1.jpg", second)])
    items = [_v7_item(number) for number in range(3)]
    brought = _import(api, dataset, "all.json", json.dumps(items).encode())
    assert brought["images"] == brought["tagged"] == 2
    assert brought["unmatched"] == ["site 2/day/1.jpg"]
    image = api.get(f"images/{ids[1]}")
    assert image["split"] == "val" and image["status"] == "done"
    classes = {c["name"]: c for c in api.get(f"datasets/{dataset}/classes")}
    tag = image["mine"]["tags"][str(classes["cat"]["id"])]
    names = {a["id"]: a["name"] for a in classes["cat"]["attributes"]}
    assert {names[key]: value for key, value in tag["attributes"].items()} == {
        "attributes": ["night", "occluded"],
        "view": "side",
        "parts": ["head", "tail"],
    }
    assert tag["text"] == "sleeping in box 1"
    # A tagged image stays in its split, unless that is asked for.
    for item in items:
        item["properties"][0]["value"] = "test"
    assert _import(api, dataset, "all.json", json.dumps(items).encode())["kept_splits"] == 2
    assert api.get(f"images/{ids[1]}")["split"] == "val"
    _import(api, dataset, "all.json", json.dumps(items).encode(), splits=1)
    assert api.get(f"images/{ids[1]}")["split"] == "test"
    assert "imported tags of 2 images" in api.post("undo", dataset=dataset)["what"]
    assert api.get(f"images/{ids[1]}")["split"] == "val"


def test_what_does_not_fit_is_refused_and_nothing_written(api, shared_data, tmp_path):
    files = read_images(shared_data, tmp_path / "cifar", 1)
    dataset = api.post("datasets", name="pets")["id"]
    api.upload(dataset, files[:1])
    seq = api.get(f"datasets/{dataset}")["seq"]
    path = files[0][0]
    rows = f"path,label\n{path},cat|dog\n".encode()
    error = _import(api, dataset, "a.csv", rows, 400)["error"]
    assert "has 2 tags" in error and "make it multi-label first" in error
    for name, data in (("a.csv", b"a,b\n1,2\n"), ("a.exe", b"MZ"), ("a.json", b"[1"), ("a", b"x")):
        found = _import(api, dataset, name, data, 400)
        assert found.keys() == {"error"} and "\n" not in found["error"]
        assert str(tmp_path) not in found["error"]
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("../out.csv", "path,label\n")
    _import(api, dataset, "a.zip", zipped.getvalue(), 400)
    assert api.get(f"datasets/{dataset}")["seq"] == seq
    assert list((tmp_path / "home" / "uploads").iterdir()) == []


def test_folders_of_classes_in_a_zip(api, shared_data, tmp_path):
    plain = collect(shared_data, tmp_path / "cifar", plain=True)
    write.write(plain, "links", tmp_path / "in", "copy")
    dataset = api.post("datasets", name="pets")["id"]
    brought = _import(api, dataset, "in.zip", _zipped(tmp_path / "in"))
    assert brought["format"] == "folder" and brought["added"] == brought["tagged"] == 24
    version = api.post(f"datasets/{dataset}/versions")["id"]
    after = read(str(_export(api, version, "links", tmp_path / "out")))
    assert comparable(after.examples) == comparable(plain.examples)
    alone = _export(api, version, "jsonl", tmp_path / "alone", images=0)
    assert sorted(f.name for f in alone.iterdir()) == [
        "classes.json",
        "classes.txt",
        "manifest.jsonl",
    ]
    assert list((tmp_path / "home" / "exports").iterdir()) == []


@pytest.mark.parametrize(
    "formats", [["darwin"], pytest.param(LABELS, marks=pytest.mark.slow)], ids=["darwin", "all"]
)
def test_training_from_an_export_gives_the_same_bits(formats, api, shared_data, tmp_path):
    """All formats: `pytest -m slow tests/studio/exchange`."""
    dataset = fill(api, read_images(shared_data, tmp_path / "cifar", 12))
    run = api.post(f"datasets/{dataset}/runs", **TINY)
    folders = {name: _export(api, run["version"], name, tmp_path / name) for name in formats}
    api.wait(run["id"])
    expected = _parameters(tmp_path / "home" / "runs" / str(run["id"]))
    empty = Collection("", False, (), ())
    from imgcls.main import main

    for name, folder in folders.items():
        source = dict(
            argument.removeprefix("--config.data.").split("=", 1)
            for argument in write.command(empty, name, str(folder))
        )
        command = recipes.arguments_of(TINY["recipe"], TINY["arguments"], TINY["config"], source)
        assert main([*command, f"--workdir={tmp_path / 'runs' / name}"]) == 0
        found = _parameters(tmp_path / "runs" / name)
        assert found.keys() == expected.keys()
        for key in expected:
            assert found[key].tobytes() == expected[key].tobytes(), (name, key)


def _parameters(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    trained = load_trained(find_checkpoint(workdir))
    leaves = jax.tree_util.tree_leaves_with_path((trained.params, trained.model_state))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
