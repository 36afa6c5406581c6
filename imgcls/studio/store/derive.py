"""Derives the tables `tag` and `label` and the status of images from the answers."""

import collections
import json

import sqlalchemy as sa
from sqlalchemy import Connection, Text, type_coerce

from imgcls.studio.store.classmap import ClassMap, read_classes
from imgcls.studio.store.connect import among, chunks
from imgcls.studio.store.consensus import Vote, settle
from imgcls.studio.store.schema import answer, dataset, image, label, tag

# What decides on an image: who reviewed it, whether it is in review, and (user, tags, flag) of each
# answer, the tags as text.
Situation = tuple[int | None, bool, tuple[tuple[int, str, str | None], ...]]


def derive(connection: Connection, dataset_id: int, ids: list[int]) -> None:
    """Brings labels, tags and status of images up to date with their answers.

    Images in the same situation are written by the same statements, so that thousands take as few
    as one.
    """
    if not ids:
        return
    query = sa.select(dataset.c.kind, dataset.c.taggers).where(dataset.c.id == dataset_id)
    kind, taggers = connection.execute(query).one()
    classes = read_classes(connection, dataset_id)
    for part in chunks(ids):
        connection.execute(tag.delete().where(among(tag.c.image_id, part)))
        connection.execute(label.delete().where(among(label.c.image_id, part)))
    labels: dict[int, list[int]] = collections.defaultdict(list)
    tags: dict[tuple[int, int], list[int]] = collections.defaultdict(list)
    states: dict[tuple[str, bool], list[int]] = collections.defaultdict(list)
    for situation, members in situations(connection, ids).items():
        reviewed_by, in_review, _ = situation
        votes = votes_of(situation, classes)
        settled = settle(
            votes, kind=kind, taggers=taggers, reviewed_by=reviewed_by, in_review=in_review
        )
        states[settled.status, settled.disputed] += members
        for class_id in settled.labels:
            labels[class_id] += members
        for vote in votes:
            for class_id in vote.classes:
                tags[class_id, vote.user] += members
    for (status, disputed), members in states.items():
        for part in chunks(members):
            values = {"status": status, "disputed": disputed}
            connection.execute(image.update().where(among(image.c.id, part)).values(values))
    for class_id, members in labels.items():
        _insert(connection, label, members, class_id)
    for (class_id, user), members in tags.items():
        _insert(connection, tag, members, class_id, user)


def votes_of(situation: Situation, classes: ClassMap) -> list[Vote]:
    """The answers of a situation, with the classes that they name today."""
    return [Vote(user, classes.classes(json.loads(t)), flag) for user, t, flag in situation[2]]


def situations(connection: Connection, ids: list[int]) -> dict[Situation, list[int]]:
    """Groups images by what decides on them."""
    found: dict[Situation, list[int]] = collections.defaultdict(list)
    for part in chunks(ids):
        answers: dict[int, list[tuple[int, str, str | None]]] = collections.defaultdict(list)
        query = sa.select(
            answer.c.image_id, answer.c.user_id, type_coerce(answer.c.tags, Text), answer.c.flag
        ).where(among(answer.c.image_id, part))
        for image_id, user, tags, flag in connection.execute(query.order_by(answer.c.user_id)):
            answers[image_id].append((user, tags, flag))
        query = sa.select(image.c.id, image.c.reviewed_by, image.c.in_review)
        for image_id, reviewed_by, in_review in connection.execute(
            query.where(among(image.c.id, part))
        ):
            found[reviewed_by, in_review, tuple(answers.get(image_id, ()))].append(image_id)
    return found


def _insert(connection: Connection, table: sa.Table, ids: list[int], *values: int) -> None:
    """Inserts (image, *values) for each image."""
    columns = list(table.c)
    for part in chunks(ids):
        row = sa.select(image.c.id, *(sa.literal(value) for value in values))
        connection.execute(table.insert().from_select(columns, row.where(among(image.c.id, part))))
