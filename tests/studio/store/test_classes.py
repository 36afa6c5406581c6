"""Classes: many at once, renamed in one row, merged, deleted, brought back."""

import pytest
import sqlalchemy as sa

from imgcls.studio.errors import Conflict, NotFound, Refused
from imgcls.studio.store import answers, bulk, classes, schema, undo
from imgcls.studio.store.check import check
from tests.studio.homes import add_dataset, add_images, add_user, new_id


@pytest.fixture
def owner(database):
    return add_user(database, "ann", "owner")


def labels(database):
    with database.read() as connection:
        assert check(connection) == []
        return set(map(tuple, connection.execute(sa.select(schema.label))))


def test_a_rename_touches_one_row(database, owner):
    dataset, (cat, *_) = add_dataset(database, owner)
    images = add_images(database, owner, dataset, 20)
    database.write(bulk.apply, owner, dataset, new_id(), images, {"tag": [cat]})
    rows = []

    def rename(connection):
        sa.event.listen(
            *(connection, "after_cursor_execute"),
            lambda c, cursor, statement, *_: rows.append((statement, cursor.rowcount)),
        )
        classes.update(connection, owner, cat, new_id(), name="kitten")

    database.write(rename)
    written = [s.split()[:3] for s, _ in rows if not s.startswith(("SELECT", "SAVE", "RELEASE"))]
    assert written == [["INSERT", "INTO", "change"], ["UPDATE", "class", "SET"]]
    with database.read() as connection:
        assert classes.listing(connection, dataset)[0]["images"] == 20


def test_colors_and_hotkeys_are_given(database, owner):
    dataset, _ = add_dataset(database, owner, names=())
    wanted = [{"name": f"class {n}"} for n in range(40)]
    wanted[3] |= {"hotkey": "1"}
    database.write(classes.create, owner, dataset, new_id(), wanted)
    with database.read() as connection:
        rows = classes.listing(connection, dataset)
    keys = [row["hotkey"] for row in rows]
    assert keys[:5] == ["2", "3", "4", "1", "5"] and keys[-1] is None
    assert len({row["colour"] for row in rows[:16]}) == 16


def test_what_a_merge_does_is_said_before(database, owner):
    dataset, (cat, dog, owl) = add_dataset(database, owner, kind="multi")
    images = add_images(database, owner, dataset, 6)
    database.write(bulk.apply, owner, dataset, new_id(), images[:4], {"tag": [cat]})
    database.write(bulk.apply, owner, dataset, new_id(), images[3:], {"tag": [dog]})
    before = labels(database)
    with database.read() as connection:
        said = classes.effect(connection, cat, dog)
        assert (said["images"], said["both"], said["left"]) == (4, 1, 0)
        said = classes.effect(connection, cat)
        assert (said["images"], said["left"]) == (4, 3) and "Undo" in said["what"]
    database.write(classes.merge, owner, cat, dog, new_id())
    assert labels(database) == {(i, dog) for i in images}
    # A chain: what was merged goes with its target.
    database.write(classes.merge, owner, dog, owl, new_id())
    assert labels(database) == {(i, owl) for i in images}
    with pytest.raises(Conflict, match="deleted or merged"):
        database.write(classes.merge, owner, cat, owl, new_id())
    database.write(undo.undo, owner, dataset, new_id())
    database.write(undo.undo, owner, dataset, new_id())
    assert labels(database) == before


def test_a_deleted_class_comes_back_with_attributes_and_text(database, owner):
    dataset, _ = add_dataset(database, owner, names=())
    attribute = {"name": "age", "kind": "number"}
    made = [{"name": "cat", "attributes": [attribute]}]
    (cat,) = database.write(classes.create, owner, dataset, new_id(), made)["ids"]
    (image,) = add_images(database, owner, dataset, 1)
    value = {"attributes": {"a1": 2.5}, "text": "<b>grey</b>"}
    item = {"image": image, "add": {str(cat): value}}
    database.write(answers.write, owner, dataset, new_id(), [item])
    database.write(classes.delete, owner, cat, new_id())
    assert labels(database) == set()
    with database.read() as connection:
        assert connection.execute(sa.select(schema.image.c.status)).scalar_one() == "new"
    # Its name is free, until it comes back.
    database.write(classes.create, owner, dataset, new_id(), made)
    database.write(undo.undo, owner, dataset, new_id())
    database.write(undo.undo, owner, dataset, new_id())
    assert labels(database) == {(image, cat)}
    assert database.write(answers.read, owner.id, [image])[image][0]["tags"] == {str(cat): value}


def test_a_class_in_use_is_not_undone(database, owner):
    other = add_user(database, "bob", "tagger")
    dataset, (cat, *_) = add_dataset(database, owner)
    (image,) = add_images(database, owner, dataset, 1)
    item = {"image": image, "add": {str(cat): {}}}
    database.write(answers.write, other, dataset, new_id(), [item])
    with pytest.raises(Conflict, match="is in 1 answers"):
        database.write(undo.undo, owner, dataset, new_id())


@pytest.mark.parametrize(
    "values,said",
    [
        ({"name": "cat"}, "there already"),
        ({"name": "a\nb"}, "printable"),
        ({"name": "x", "colour": "red"}, "#rrggbb"),
        ({"name": "x", "hotkey": "!"}, "1 to 9 or a to z"),
        ({"name": "x", "hotkey": "2"}, "key of 'dog' already"),
        ({"name": "x", "attributes": [{"name": "a", "kind": "chioce"}]}, "did you mean 'choice'"),
        ({"name": "x", "attributes": [{"name": "a", "kind": "choice"}]}, "at least one"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(database, owner, values, said):
    dataset, ids = add_dataset(database, owner)
    with pytest.raises((Conflict, Refused), match=said):
        database.write(classes.create, owner, dataset, new_id(), [{"name": "new"}, values])
    with database.read() as connection:
        assert [row["id"] for row in classes.listing(connection, dataset)] == ids


@pytest.mark.parametrize(
    "kind,good,bad",
    [
        ("choice", "a", "c"),
        ("choices", ["a", "b"], ["a", "c"]),
        ("yes_no", False, 0),
        ("number", 1.5, float("nan")),
        ("text", "hello", 3),
    ],
)
def test_attributes_are_checked(database, owner, kind, good, bad):
    dataset, _ = add_dataset(database, owner, names=())
    attribute = {"name": "x", "kind": kind, "options": ["a", "b"] if "choice" in kind else []}
    made = [{"name": "cat", "attributes": [attribute]}]
    (cat,) = database.write(classes.create, owner, dataset, new_id(), made)["ids"]
    (image,) = add_images(database, owner, dataset, 1)

    def write(attributes):
        item = {"image": image, "add": {str(cat): {"attributes": attributes}}}
        database.write(answers.write, owner, dataset, new_id(), [item])
        return database.write(answers.read, owner.id, [image])[image][0]["tags"][str(cat)]

    assert write({"a1": good}) == {"attributes": {"a1": good}}
    with pytest.raises(Refused, match="'?x'?: write"):
        write({"a1": bad})
    with pytest.raises(NotFound, match="has no 'a2'"):
        write({"a2": good})
    assert write({"a1": None}) == {}
