"""Tagging: single images and many at once."""

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Connection

from imgcls.studio.api import who
from imgcls.studio.api.bodies import Answers, Bulk
from imgcls.studio.errors import Refused
from imgcls.studio.store import answers, bulk, filters, images

router = APIRouter(prefix="/api", tags=["tagging"])


@router.post("/datasets/{dataset}/answers")
def write_answers(
    request: Request, user: who.Tagger, dataset: int, body: Answers
) -> dict[str, Any]:
    """Tag images, flag them, comment them: `{"seq", "images": [cells]}`.

    409 with `stale` where an image was changed since the `revision` that was seen.
    """
    items = [item.model_dump(exclude_unset=True) for item in body.items]

    def write(connection: Connection) -> dict[str, Any]:
        result = answers.write(connection, user, dataset, body.request_id, items)
        ids = [item["image"] for item in items][: images.MOST_CELLS]
        return {**result, "images": images.cells(connection, user, ids, dataset)}

    return request.app.state.database.write(write)


@router.post("/datasets/{dataset}/bulk")
def act_in_bulk(request: Request, user: who.Tagger, dataset: int, body: Bulk) -> dict[str, Any]:
    """Tag, untag, move, review or remove many images: `{"seq", "changed", "skipped", "why"}`."""
    select, action = body.select, body.action.given()
    if (select.ids is None) == (select.filter is None):
        raise Refused("select: write either ids or filter")

    def write(connection: Connection) -> dict[str, Any]:
        ids = select.ids
        if ids is None and select.filter is not None:
            ids = filters.ids(connection, dataset, user.id, select.filter)
        return bulk.apply(connection, user, dataset, body.request_id, ids or [], action)

    return request.app.state.database.write(write)
