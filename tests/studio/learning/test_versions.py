"""Versions: the same tags give the same bytes, and what the trainer reads is what was tagged."""

import pathlib

import pytest

from imgcls.data.sources.open import create_source
from imgcls.studio.errors import Refused
from imgcls.studio.exchange.collection import Tag
from imgcls.studio.learning import versions
from imgcls.studio.store import answers, classes, users
from tests.studio.learning.homes import make_home


@pytest.fixture
def made(tmp_path, shared_data):
    made = make_home(tmp_path, shared_data)
    yield made
    made.database.close()


def _freeze(made, request, name=""):
    found = versions.freeze(made.database, made.home, made.user, made.dataset, request, name)
    with made.database.read() as connection:
        return found, versions.get(connection, found["id"])


def _files(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_nothing_tagged_is_no_version(made):
    with pytest.raises(Refused, match="no image has a settled tag yet"):
        _freeze(made, "a")


def test_the_trainer_reads_what_is_tagged(made):
    made.tag(made.ids[:30])
    found, row = _freeze(made, "a")
    assert found["count"] == 30 and found["name"] == "v1" and not found["unchanged"]
    options = versions.source_of(made.home, row)
    spec = options.pop("source")
    seen = 0
    for split in ("train", "val", "test"):
        source = create_source(spec, split, **options)
        assert source.class_names == ("truck", "cat", "airplane") and not source.multi_label
        for i in range(len(source)):
            folder = source.name(i).split("/images/")[1].split("/")[0]
            assert source.class_names[source[i]["label"]] == folder
            seen += 1
    assert seen == 30


def test_the_same_tags_are_the_same_bytes(made, tmp_path, shared_data):
    made.tag(made.ids[:20])
    first, row = _freeze(made, "a")
    again, _ = _freeze(made, "b")
    assert again["id"] == first["id"] and again["unchanged"]
    assert _freeze(made, "a")[0] == first
    made.tag(made.ids[20:22], "more")
    second, other = _freeze(made, "c")
    assert second["name"] == "v2" and second["digest"] != first["digest"]
    # Another home, with the images and tags in another order.
    twin = make_home(tmp_path / "twin", shared_data)
    for number, one in enumerate(reversed(twin.ids[:20])):
        twin.tag([one], f"tag {number}")
    third, same = _freeze(twin, "a")
    assert third["digest"] == first["digest"]
    folders = [versions.folder_of(m.home, r) for m, r in ((made, row), (twin, same))]
    assert _files(folders[0]) == _files(folders[1])
    assert len(_files(folders[0])) == 20 + 3
    twin.database.close()


def test_a_version_stays_as_it_is(made):
    made.tag()
    _, row = _freeze(made, "a")
    before = _files(versions.folder_of(made.home, row))
    items = [{"image": made.ids[0], "add": {str(made.classes["truck"]): {}}}]
    made.database.write(answers.write, made.user, made.dataset, "other", items)
    made.database.write(classes.update, made.user, made.classes["cat"], "rename", name="kitten")
    _freeze(made, "b")
    assert _files(versions.folder_of(made.home, row)) == before
    found = versions.load(made.home, row)
    assert {t.name for e in found.examples for t in e.tags} == {"airplane", "cat", "truck"}
    assert all(pathlib.Path(e.file).is_file() for e in found.examples)


def test_attributes_and_texts_by_name(made):
    attributes = [{"name": "view", "kind": "choice", "options": ["front", "side"]}]
    cat, truck = made.classes["cat"], made.classes["truck"]
    made.database.write(classes.update, made.user, cat, "attributes", attributes=attributes)
    tag = {"attributes": {"a1": "side"}, "text": "asleep"}
    items = [{"image": made.ids[0], "add": {str(cat): tag}, "comment": "dark"}]
    made.database.write(answers.write, made.user, made.dataset, "tag", items)
    with made.database.read() as connection:
        (example,) = versions.collect(connection, made.home, made.dataset).examples
    assert example.tags == (Tag("cat", {"view": "side"}, "asleep"),)
    assert example.comment == "dark" and example.folder == "airplane"
    # The reviewer's own words count before those of others, and a merged class keeps them.
    made.database.write(classes.merge, made.user, cat, truck, "merge")
    with made.database.read() as connection:
        (example,) = versions.collect(connection, made.home, made.dataset).examples
    assert example.tags == (Tag("truck", {"view": "side"}, "asleep"),)


def test_none_of_these_is_an_example_of_a_multi_label_set(tmp_path, shared_data):
    made = make_home(tmp_path, shared_data, each=2, kind="multi")
    made.tag(made.ids[:3])
    items = [{"image": made.ids[3], "flag": "none"}, {"image": made.ids[4], "flag": "skip"}]
    made.database.write(answers.write, made.user, made.dataset, "none", items)
    found, row = _freeze(made, "a")
    assert found["count"] == 4
    empty = [e for e in versions.load(made.home, row).examples if not e.tags]
    assert len(empty) == 1
    options = versions.source_of(made.home, row)
    assert options["multi_label"] is True
    assert len(create_source(options["source"], "train", multi_label=True)) == 4
    made.database.close()


def test_disputed_images_wait(tmp_path, shared_data):
    made = make_home(tmp_path, shared_data, each=2, taggers=2)
    other, _ = made.database.write(users.add_user, "ann", "tagger")
    made.tag(made.ids[:3])
    with pytest.raises(Refused):  # Each image needs two answers.
        _freeze(made, "a")
    same = [{"image": made.ids[0], "add": {str(made.classes["airplane"]): {}}}]
    differs = [{"image": made.ids[1], "add": {str(made.classes["cat"]): {}}}]
    made.database.write(answers.write, other, made.dataset, "b", same + differs)
    found, row = _freeze(made, "c")
    assert found["count"] == 1
    made.database.close()
