"""New images: duplicates, near-duplicate groups, splits, rows."""

import collections
import dataclasses
import hashlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.store import datasets
from imgcls.studio.store.schema import image, signature
from imgcls.studio.store.users import User


class Incoming(NamedTuple):
    """A readable file: columns of `image`; `hash` is a number, `thumb` as in `signature`."""

    sha256: str
    name: str
    folder: str
    media: str
    extension: str
    path: str | None
    width: int
    height: int
    frames: int
    size: int
    hash: int | None
    thumb: bytes


class Index(Protocol):
    """Finds near duplicates among the stored images, see `pictures.near.NearIndex`."""

    def find(self, connection: Connection, bits: int, thumb: bytes) -> int | None:
        """The stored image that is most like another, if they are near duplicates."""
        ...

    def alike(self, first: tuple[int, bytes], second: tuple[int, bytes]) -> bool:
        """Whether two images, as (hash, small picture), are near duplicates."""
        ...


@dataclasses.dataclass
class Inserted:
    """What became of new images.

    Attributes:
      added: their ids.
      duplicates: `{"name", "of": id, "same_as": name}` of those that are there already.
      by_split: `{split: ids}` of those that are added.
    """

    added: list[int] = dataclasses.field(default_factory=list)
    duplicates: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    by_split: dict[str, list[int]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )


def choose_split(sha256: str, fractions: dict[str, float]) -> str:
    """The split of a near-duplicate group, by the content of its first image.

    It depends on nothing else, so that it stays as the data set grows.
    """
    digest = hashlib.sha256(f"split {sha256}".encode()).digest()
    at = int.from_bytes(digest[:8], "big") / 2**64
    for split in datasets.SPLITS:
        at -= fractions.get(split, 0.0)
        if at < 0:
            return split
    return max(datasets.SPLITS, key=lambda split: fractions.get(split, 0.0))


def insert(
    connection: Connection, user: User, dataset_id: int, items: Sequence[Incoming], index: Index
) -> Inserted:
    """Inserts rows of the images that are new. They are removed until their change is recorded.

    An image that was removed before comes back as it was.
    """
    fractions = datasets.get(connection, dataset_id).fractions
    result, known = Inserted(), _known(connection, dataset_id, items)
    number: int = connection.execute(sa.select(sa.func.max(image.c.id))).scalar() or 0
    rows: list[dict[str, Any]] = []
    signatures: list[dict[str, Any]] = []
    fresh = _Fresh()
    for item in items:
        if (there := known.get(item.sha256)) is not None:
            of, same_as, removed, split = there
            if removed:
                result.added.append(of)
                result.by_split[split].append(of)
                known[item.sha256] = (of, same_as, False, split)
            else:
                shown = f"{item.folder}/{item.name}" if item.folder else item.name
                result.duplicates.append({"name": shown, "of": of, "same_as": same_as})
            continue
        number += 1
        cluster, split = number, choose_split(item.sha256, fractions)
        if item.hash is not None:
            near = fresh.find(item, index) or _stored(connection, item, index)
            cluster, split = near or (cluster, split)
            fresh.add(item, cluster, split)
        rows.append(_row(item, number, dataset_id, user, cluster, split))
        signatures.append({"image_id": number, "thumb": item.thumb})
        known[item.sha256] = (number, item.name, False, split)
        result.added.append(number)
        result.by_split[split].append(number)
    if rows:
        connection.execute(image.insert(), rows)
        connection.execute(signature.insert(), signatures)
    return result


class _Fresh:
    """The images of this batch, which no index has yet."""

    def __init__(self) -> None:
        self._items: list[tuple[tuple[int, bytes], tuple[int, str]]] = []

    def find(self, item: Incoming, index: Index) -> tuple[int, str] | None:
        for other, place in self._items:
            if item.hash is not None and index.alike((item.hash, item.thumb), other):
                return place
        return None

    def add(self, item: Incoming, cluster: int, split: str) -> None:
        if item.hash is not None:
            self._items.append(((item.hash, item.thumb), (cluster, split)))


def _stored(connection: Connection, item: Incoming, index: Index) -> tuple[int, str] | None:
    """(cluster, split) of the stored image that an image is a near duplicate of."""
    near = None if item.hash is None else index.find(connection, item.hash, item.thumb)
    if near is None:
        return None
    query = sa.select(image.c.cluster, image.c.split).where(image.c.id == near)
    row = connection.execute(query).one()
    return row.cluster, row.split


def _known(
    connection: Connection, dataset_id: int, items: Sequence[Incoming]
) -> dict[str, tuple[int, str, bool, str]]:
    """`{sha256: (id, name, removed, split)}` of those that the data set has."""
    found: dict[str, tuple[int, str, bool, str]] = {}
    wanted = [item.sha256 for item in items]
    for start in range(0, len(wanted), 500):
        query = sa.select(
            *(image.c.sha256, image.c.id, image.c.name, image.c.removed, image.c.split)
        ).where(image.c.dataset_id == dataset_id, image.c.sha256.in_(wanted[start : start + 500]))
        for sha256, *rest in connection.execute(query):
            found[sha256] = (rest[0], rest[1], rest[2], rest[3])
    return found


def _row(
    item: Incoming, number: int, dataset_id: int, user: User, cluster: int, split: str
) -> dict[str, Any]:
    row = item._asdict()
    row.pop("thumb")
    row["bytes"] = row.pop("size")
    digest = hashlib.sha256(f"order {item.sha256}".encode()).digest()
    return row | {
        "id": number,
        "dataset_id": dataset_id,
        "hash": None if item.hash is None else f"{item.hash:016x}",
        "cluster": cluster,
        "split": split,
        "removed": True,
        "uploaded_by": user.id,
        "uploaded": time.time(),
        "seed_order": int.from_bytes(digest[:4], "big") >> 1,
    }
