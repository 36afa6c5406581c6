"""Images as the page shows them: cells of the grid, all about one, its history."""

import collections
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.errors import NotFound, Refused
from imgcls.studio.store import users
from imgcls.studio.store.classmap import read_classes
from imgcls.studio.store.connect import among
from imgcls.studio.store.schema import (
    answer,
    change,
    change_image,
    dataset,
    finding,
    image,
    klass,
    label,
    prediction,
)
from imgcls.studio.store.users import User

MOST_CELLS = 500
_CELL = ("id", "name", "folder", "status", "split", "comment", "revision", "media", "width")
_CELL += ("height", "frames", "cluster", "reviewed_by", "in_review", "disputed")
_MORE = ("dataset_id", "sha256", "extension", "bytes", "uploaded", "uploaded_by")


def get(connection: Connection, image_id: int) -> Any:
    """The row of an image that is not removed.

    Raises:
      NotFound: there is none.
    """
    query = sa.select(image).where(image.c.id == image_id, image.c.removed.is_(False))
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no image {image_id}")
    return row


def cells(
    connection: Connection, user: User, ids: Sequence[int], dataset_id: int | None = None
) -> list[dict[str, Any]]:
    """What the grid shows of images, in the order of `ids`; unknown ones are left out."""
    if len(ids) > MOST_CELLS:
        raise Refused(f"ids: {len(ids)} of them; write at most {MOST_CELLS}")
    ids = list(ids)
    query = sa.select(image.c.dataset_id, *(image.c[name] for name in _CELL))
    query = query.where(among(image.c.id, ids), image.c.removed.is_(False))
    if dataset_id is not None:
        query = query.where(image.c.dataset_id == dataset_id)
    rows = {row.id: row._mapping for row in connection.execute(query)}
    labels = collections.defaultdict(list)
    for image_id, class_id in connection.execute(
        sa.select(label).where(among(label.c.image_id, ids))
    ):
        labels[image_id].append(class_id)
    classes = {d: read_classes(connection, d) for d in {row["dataset_id"] for row in rows.values()}}
    mine: dict[int, dict[str, Any]] = {}
    query = sa.select(answer.c.image_id, answer.c.tags, answer.c.flag)
    query = query.where(answer.c.user_id == user.id, among(answer.c.image_id, ids))
    for image_id, tags, flag in connection.execute(query):
        if image_id in rows:
            known = classes[rows[image_id]["dataset_id"]]
            mine[image_id] = {"tags": known.tags(tags), "flag": flag}
    best = _predictions(connection, ids, 0)
    return [
        {
            **{name: rows[i][name] for name in _CELL},
            "labels": sorted(labels[i]),
            "mine": mine.get(i),
            "flag": mine[i]["flag"] if i in mine else None,
            "prediction": best[i][0] if i in best else None,
        }
        for i in ids
        if i in rows
    ]


def details(connection: Connection, user: User, image_id: int) -> dict[str, Any]:
    """All about an image: everybody's answers, predictions, findings, near duplicates."""
    row = get(connection, image_id)
    classes = read_classes(connection, row.dataset_id)
    who = users.names(connection)
    answers = [
        {
            "user": a.user_id,
            "name": who.get(a.user_id),
            "tags": classes.tags(a.tags),
            "flag": a.flag,
            "time": a.time,
        }
        for a in connection.execute(
            sa.select(answer).where(answer.c.image_id == image_id).order_by(answer.c.user_id)
        )
    ]
    findings = connection.execute(
        sa.select(finding.c.kind, finding.c.detail).where(finding.c.image_id == image_id)
    )
    near = connection.execute(
        sa.select(image.c.id)
        .where(image.c.dataset_id == row.dataset_id, image.c.cluster == row.cluster)
        .where(image.c.removed.is_(False), image.c.id != image_id)
        .order_by(image.c.id)
    )
    return {
        **cells(connection, user, [image_id])[0],
        **{name: row._mapping[name] for name in _MORE},
        "uploader": who.get(row.uploaded_by),
        "reviewer": who.get(row.reviewed_by),
        "answers": answers,
        "predictions": _predictions(connection, [image_id], 99).get(image_id, []),
        "findings": [dict(f._mapping) for f in findings],
        "near_duplicates": list(near.scalars()),
    }


def history(connection: Connection, image_id: int, since: int = 0) -> list[dict[str, Any]]:
    """The changes of an image after a seq, newest first: who, when, what, before and after."""
    query = (
        sa.select(
            *(change.c.seq, change.c.time, change.c.user_id, change.c.kind, change.c.what),
            *(change.c.undone_by, change_image.c.before, change_image.c.after),
        )
        .join(change_image, change_image.c.seq == change.c.seq)
        .where(change_image.c.image_id == image_id, change.c.seq > since)
        .order_by(change.c.seq.desc())
    )
    who = users.names(connection)
    return [
        {
            **{"seq": row.seq, "time": row.time, "user": row.user_id, "name": who.get(row.user_id)},
            **{"kind": row.kind, "what": row.what, "undone": row.undone_by is not None},
            **{"before": row.before, "after": row.after},
        }
        for row in connection.execute(query)
    ]


def _predictions(
    connection: Connection, ids: list[int], rank: int
) -> dict[int, list[dict[str, Any]]]:
    """`{image: [{"class_id", "score"}]}` of the data sets' models, best first, up to a rank."""
    query = (
        sa.select(prediction.c.image_id, prediction.c.class_id, prediction.c.score)
        .join(image, image.c.id == prediction.c.image_id)
        .join(dataset, dataset.c.id == image.c.dataset_id)
        .join(klass, klass.c.id == prediction.c.class_id)
        .where(klass.c.deleted.is_(False), klass.c.merged_into.is_(None))
        .where(prediction.c.model_id == dataset.c.model_id, prediction.c.rank <= rank)
        .where(among(prediction.c.image_id, ids))
        .order_by(prediction.c.image_id, prediction.c.rank)
    )
    found = collections.defaultdict(list)
    for image_id, class_id, score in connection.execute(query):
        found[image_id].append({"class_id": class_id, "score": score})
    return found
