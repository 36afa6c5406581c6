"""What arrives: stored whole or not at all, grouped with its near duplicates, split for ever."""

import hashlib
import zipfile

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from imgcls.audit import duplicates
from imgcls.studio.home import Home
from imgcls.studio.pictures import near
from imgcls.studio.pictures.ingest import Ingest, Item
from imgcls.studio.store import bulk, datasets, schema, undo
from imgcls.studio.store.check import check
from imgcls.studio.store.connect import Database
from imgcls.studio.store.incoming import choose_split
from tests.conftest import SHARED_DATA
from tests.studio.homes import add_dataset, add_user, new_id


@pytest.fixture
def world(tmp_path):
    home = Home(tmp_path / "home")
    database = Database(home.database_url)
    owner = add_user(database, "ann", "owner")
    dataset, _ = add_dataset(database, owner)
    yield home, database, owner, dataset, Ingest(home, database, [str(tmp_path / "root")])
    database.close()


def draw(seed: int, side: int = 64) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def save(home: Home, image: Image.Image, name: str, **options) -> Item:
    path = home.uploads / new_id()
    image.save(path, **{"format": "PNG", **options})
    return Item(path, name)


def rows(database):
    with database.read() as connection:
        assert check(connection) == []
        query = sa.select(schema.image).where(schema.image.c.removed.is_(False))
        return connection.execute(query.order_by(schema.image.c.id)).all()


def test_criteria_are_those_of_the_audit():
    assert near.MAX_BITS == duplicates.MAX_BITS
    assert near.MIN_CORRELATION == duplicates.MIN_CORRELATION


def test_files_are_stored_by_their_content(world):
    home, database, owner, dataset, ingest = world
    item = save(home, draw(0), "../../etc/<b>.png")
    data = item.path.read_bytes()
    result = ingest.run(owner, dataset, [item])
    (row,) = rows(database)
    assert row.id == result["added"][0] and row.sha256 == hashlib.sha256(data).hexdigest()
    assert home.picture(row.sha256, "png").read_bytes() == data
    assert list(home.uploads.iterdir()) == []
    assert [p.name for p in home.pictures.rglob("*.*")] == [f"{row.sha256}.png"]


def test_unreadable_files_leave_nothing(world):
    home, database, owner, dataset, ingest = world
    good = save(home, draw(0), "good.png").path.read_bytes()
    texts = {
        "cut.png": good[: len(good) // 2],
        "empty.jpg": b"",
        "page.jpg": b"<html><script>alert(1)</script>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "text.png": b"hello",
    }
    items = []
    for name, data in texts.items():
        path = home.uploads / new_id()
        path.write_bytes(data)
        items.append(Item(path, name))
    result = ingest.run(owner, dataset, items)
    assert [entry["name"] for entry in result["unreadable"]] == list(texts)
    assert all("\n" not in entry["why"] for entry in result["unreadable"])
    assert rows(database) == [] and list(home.pictures.rglob("*.*")) == []


def test_duplicates_are_named(world):
    home, database, owner, dataset, ingest = world
    first = ingest.run(owner, dataset, [save(home, draw(0), "a.png"), save(home, draw(0), "b.png")])
    assert first["duplicates"] == [{"name": "b.png", "of": first["added"][0], "same_as": "a.png"}]
    again = ingest.run(owner, dataset, [save(home, draw(0), "c.png")])
    assert again["added"] == [] and again["duplicates"][0]["same_as"] == "a.png"
    # In another data set it is new, and the file is there once.
    other, _ = add_dataset(database, owner)
    assert len(ingest.run(owner, other, [save(home, draw(0), "a.png")])["added"]) == 1
    assert len(list(home.pictures.rglob("*.*"))) == 1


def test_near_duplicates_share_a_group_and_a_split(world):
    home, database, owner, dataset, ingest = world
    ingest.run(owner, dataset, [save(home, draw(n), f"{n}.png") for n in range(40)])
    split = {row.name: row.split for row in rows(database)}
    assert set(split.values()) == {"train", "val", "test"}
    # One batch, and one more: smaller, and as JPEG.
    copies = [save(home, draw(n).resize((50, 50)), f"{n} small") for n in range(40)]
    copies += [save(home, draw(n), f"{n} jpeg", format="JPEG", quality=80) for n in range(20)]
    ingest.run(owner, dataset, copies)
    found = rows(database)
    groups = {row.name: row.cluster for row in found}
    assert all(
        groups[row.name] == groups[f"{row.name.split(' ')[0].split('.')[0]}.png"] for row in found
    )
    assert all(row.split == split[f"{row.name.split(' ')[0].split('.')[0]}.png"] for row in found)
    assert len(set(groups.values())) == 40


def test_splits_stay_as_the_data_set_grows(world):
    home, database, owner, dataset, ingest = world
    ingest.run(owner, dataset, [save(home, draw(n), f"{n}.png") for n in range(10)])
    before = {row.id: row.split for row in rows(database)}
    fractions = {"train": 0.0, "val": 0.0, "test": 1.0}
    database.write(datasets.update, owner, dataset, new_id(), fractions=fractions)
    ingest.run(owner, dataset, [save(home, draw(n), f"{n}.png") for n in range(10, 20)])
    after = {row.id: row.split for row in rows(database)}
    assert before.items() <= after.items()
    assert {after[i] for i in after.keys() - before.keys()} == {"test"}


def test_shares_of_the_splits():
    splits = [choose_split(str(n), {"train": 0.7, "val": 0.1, "test": 0.2}) for n in range(5000)]
    shares = [splits.count(name) / 5000 for name in ("train", "val", "test")]
    # Five standard errors.
    assert np.abs(np.array(shares) - [0.7, 0.1, 0.2]).max() < 5 * (0.25 / 5000) ** 0.5


def test_an_upload_is_undone_and_comes_back_with_its_tags(world):
    home, database, owner, dataset, ingest = world
    (cat,) = [c for c in range(1, 2)]
    added = ingest.run(owner, dataset, [save(home, draw(n), f"{n}.png") for n in range(3)])["added"]
    database.write(bulk.apply, owner, dataset, new_id(), added, {"tag": [cat]})
    database.write(bulk.apply, owner, dataset, new_id(), added[:1], {"remove": True})
    assert [row.id for row in rows(database)] == added[1:]
    again = ingest.run(owner, dataset, [save(home, draw(0), "new name.png")])
    assert again["added"] == added[:1] and rows(database)[0].status == "done"
    for _ in range(4):  # The return, the removal, the tags, the upload.
        database.write(undo.undo, owner, dataset, new_id())
    assert rows(database) == []
    database.write(undo.redo, owner, dataset, new_id())
    assert [row.id for row in rows(database)] == added


def test_a_repeated_upload_is_one(world):
    home, database, owner, dataset, ingest = world
    first = ingest.run(owner, dataset, [save(home, draw(0), "a.png")], "request")
    assert ingest.run(owner, dataset, [save(home, draw(0), "a.png")], "request") == first
    assert list(home.uploads.iterdir()) == []


def test_registered_files_stay_where_they_are(world, tmp_path):
    home, database, owner, dataset, ingest = world
    path = tmp_path / "root" / "a.png"
    path.parent.mkdir()
    draw(0).save(path)
    ingest.run(owner, dataset, [Item(path, "a.png", registered=True)])
    assert path.exists() and list(home.pictures.rglob("*.*")) == []
    assert rows(database)[0].path == str(path)
    outside = tmp_path / "b.png"
    draw(1).save(outside)
    result = ingest.run(owner, dataset, [Item(outside, "b.png", registered=True)])
    assert "not below --roots" in result["unreadable"][0]["why"] and outside.exists()


@pytest.mark.skipif(not (SHARED_DATA / "cifar10_jpg.zip").exists(), reason="no CIFAR-10 as JPEG")
def test_real_pictures_are_not_near_duplicates_of_each_other(world):
    home, database, owner, dataset, ingest = world
    items = []
    with zipfile.ZipFile(SHARED_DATA / "cifar10_jpg.zip") as archive:
        for name in [name for name in archive.namelist() if name.endswith(".jpg")][:400]:
            path = home.uploads / new_id()
            path.write_bytes(archive.read(name))
            items.append(Item(path, name))
    assert len(ingest.run(owner, dataset, items)["added"]) == 400
    assert len({row.cluster for row in rows(database)}) >= 398
