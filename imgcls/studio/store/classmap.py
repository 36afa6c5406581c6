"""What the class ids in answers stand for today."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.store.schema import klass

# The tags of an answer: {"<class id>": {"attributes": {...}, "text": "..."}}.
Tags = Mapping[str, Mapping[str, Any]]


class ClassMap:
    """The classes of a data set, with those that are merged or deleted.

    Attributes:
      rows: `{id: row}` of all classes, deleted ones too.
      live: ids of the classes that can be used, in their order.
    """

    def __init__(self, rows: Iterable[Any]):
        ordered = sorted(rows, key=lambda row: (row.position, row.id))
        self.rows: dict[int, Any] = {row.id: row for row in ordered}
        self.live = [row.id for row in ordered if self.resolve(row.id) == row.id]

    def resolve(self, class_id: int) -> int | None:
        """The class that `class_id` stands for: itself, what it is merged into, or None."""
        seen = set()
        while class_id in self.rows and class_id not in seen:
            seen.add(class_id)
            row = self.rows[class_id]
            if row.merged_into is None:
                return None if row.deleted else class_id
            class_id = row.merged_into
        return None

    def standing_for(self, class_id: int) -> set[int]:
        """All ids whose tags pass through `class_id`: itself, and what was merged into it."""
        found, before = {class_id}, set()
        while found != before:
            before = set(found)
            found |= {row.id for row in self.rows.values() if row.merged_into in before}
        return found

    def classes(self, tags: Tags) -> frozenset[int]:
        """The classes that an answer names today."""
        found = (self.resolve(int(key)) for key in tags)
        return frozenset(c for c in found if c is not None)

    def tags(self, tags: Tags) -> dict[str, dict[str, Any]]:
        """The tags of an answer today: merged classes by their target, without deleted ones.

        Where several stand for one class, its own attributes and text count.
        """
        found: dict[str, dict[str, Any]] = {}
        for key, value in tags.items():
            target = self.resolve(int(key))
            if target is not None and (str(target) == key or str(target) not in found):
                found[str(target)] = dict(value)
        return found


def read_classes(connection: Connection, dataset_id: int) -> ClassMap:
    """Reads the classes of a data set."""
    query = sa.select(klass).where(klass.c.dataset_id == dataset_id)
    return ClassMap(connection.execute(query).all())
