"""Homes for tests: users, a data set, images without files."""

import hashlib
import itertools
import uuid

from imgcls.studio.store import classes, datasets, users
from imgcls.studio.store.changes import Action, Group, record
from imgcls.studio.store.incoming import Incoming, insert
from imgcls.studio.store.users import User

_numbers = itertools.count()


def new_id() -> str:
    return str(uuid.uuid4())


class NoIndex:
    """Finds no near duplicates."""

    def find(self, connection, bits, thumb):
        return None

    def alike(self, first, second):
        return False


def add_user(database, name: str, role: str) -> User:
    return database.write(users.add_user, name, role)[0]


def add_dataset(database, owner: User, names=("cat", "dog", "owl"), **values) -> tuple[int, list]:
    """Returns the data set and the ids of its classes."""
    values = {"name": f"data {next(_numbers)}", **values}
    dataset = database.write(datasets.create, owner, new_id(), **values)["id"]
    wanted = [{"name": name} for name in names]
    made = (
        database.write(classes.create, owner, dataset, new_id(), wanted) if wanted else {"ids": []}
    )
    return dataset, made["ids"]


def add_images(database, owner: User, dataset: int, count: int) -> list[int]:
    """Inserts rows of images, as an upload does."""
    items = [
        Incoming(
            sha256=hashlib.sha256(str(next(_numbers)).encode()).hexdigest(),
            **{"name": f"{n:05}.jpg", "folder": f"f{n % 3}", "media": "image", "extension": "jpg"},
            **{"path": None, "width": 32, "height": 32, "frames": 1, "size": 1000},
            **{"hash": None, "thumb": b""},
        )
        for n in range(count)
    ]

    def write(connection):
        new = insert(connection, owner, dataset, items, NoIndex())
        groups = [
            Group(ids, {"removed": True}, {"removed": False, "split": split})
            for split, ids in new.by_split.items()
        ]
        record(
            connection,
            Action(new_id(), owner.id, dataset, "upload", "uploaded", undoable=False),
            groups=groups,
        )
        return new.added

    return database.write(write)
