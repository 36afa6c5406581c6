"""Homes with real images of CIFAR-10 that are tagged, made without a server."""

import hashlib
import pathlib
import shutil
import time
from typing import Any, NamedTuple

import sqlalchemy as sa

from imgcls.studio.home import Home
from imgcls.studio.store import answers, classes, datasets, users
from imgcls.studio.store.connect import Database
from imgcls.studio.store.schema import image
from imgcls.studio.store.users import User
from tests.data.own import CLASSES, unpack_cifar10

SPLITS = ("train", "train", "train", "train", "val", "test")


class Made(NamedTuple):
    """A home with a data set of three classes; `ids` of the images and what they show."""

    home: Home
    database: Database
    user: User
    dataset: int
    classes: dict[str, int]
    ids: list[int]
    shown: list[str]

    def tag(self, ids: list[int] | None = None, request: str = "tag") -> None:
        """Tags images with what they show; all of them by default."""
        pairs = zip(self.ids, self.shown, strict=True)
        items = [
            {"image": i, "add": {str(self.classes[name]): {}}}
            for i, name in pairs
            if ids is None or i in ids
        ]
        self.database.write(answers.write, self.user, self.dataset, request, items)


def make_home(
    root: pathlib.Path, shared: pathlib.Path, each: int = 12, kind: str = "single", **names: Any
) -> Made:
    """Makes a home with `each` images of three classes, of which none is tagged.

    Args:
      root: where the home and the images are made.
      shared: the folder of real data.
      each: number of images of each class.
      kind: 'single' or 'multi'.
      names: further values of the data set.
    """
    home = Home(root / "home")
    database = Database(home.database_url)
    user = _local(database)
    made = database.write(datasets.create, user, "make", name="pets", kind=kind, **names)
    wanted = [{"name": name} for name in reversed(CLASSES)]
    found = database.write(classes.create, user, made["id"], "classes", wanted)
    class_ids = dict(zip(reversed(CLASSES), found["ids"], strict=True))
    ids, shown = [], []
    for number, path in enumerate(unpack_cifar10(shared, root / "cifar", each)):
        ids.append(add_image(home, database, made["id"], root / "cifar" / path, path, number))
        shown.append(path.split("/")[0])
    return Made(home, database, user, made["id"], class_ids, ids, shown)


def add_image(
    home: Home, database: Database, dataset: int, file: pathlib.Path, path: str, number: int
) -> int:
    """Stores an image as an upload does."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    stored = home.picture(sha256, "jpg")
    stored.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, stored)
    folder, _, name = path.rpartition("/")
    values = dict(
        dataset_id=dataset,
        sha256=sha256,
        name=name,
        folder=folder,
        media="image",
        extension="jpg",
        width=32,
        height=32,
        bytes=stored.stat().st_size,
        cluster=number + 1,
        uploaded=time.time(),
        seed_order=number * 7919 % 1009,
        split=SPLITS[number % len(SPLITS)],
    )

    def insert(connection: sa.Connection) -> int:
        key = connection.execute(image.insert().values(values)).inserted_primary_key
        assert key is not None
        return key[0]

    return database.write(insert)


def _local(database: Database) -> User:
    found = users.People(database).local()
    assert found is not None
    return found
