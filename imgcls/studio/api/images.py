"""Which images there are, and all about one."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from imgcls.studio.api import who
from imgcls.studio.api.bodies import Cells
from imgcls.studio.store import datasets, filters, images

router = APIRouter(prefix="/api", tags=["images"])


class Wanted(filters.Filter):
    """A filter and an order."""

    sort: Annotated[str, Field(max_length=40)] = "id"


@router.get("/datasets/{dataset}/ids", response_model=dict[str, Any])
def list_ids(
    request: Request, user: who.Tagger, dataset: int, wanted: Annotated[Wanted, Query()]
) -> Response:
    """The images that a filter selects, in order: `{"seq", "count", "ids"}`."""
    with request.app.state.database.read() as connection:
        seq = datasets.last_seq(connection, dataset)
        if wanted.sort in filters.SORTS:
            found = filters.ids(connection, dataset, user.id, wanted, wanted.sort)
        else:
            found = filters.ids(connection, dataset, user.id, wanted)
            from imgcls.studio.learning import orders

            home = request.app.state.home
            found = orders.sort_ids(connection, home, dataset, user, found, wanted.sort)
    body = json.dumps({"seq": seq, "count": len(found), "ids": found}, separators=(",", ":"))
    return Response(body, media_type="application/json")


@router.post("/datasets/{dataset}/cells")
def list_cells(
    request: Request, user: who.Tagger, dataset: int, body: Cells
) -> list[dict[str, Any]]:
    """What the grid shows of at most 500 images."""
    with request.app.state.database.read() as connection:
        datasets.get(connection, dataset)
        return images.cells(connection, user, body.ids, dataset)


@router.get("/images/{image}")
def get_image(request: Request, user: who.Tagger, image: int) -> dict[str, Any]:
    """All about an image: everybody's answers, predictions, findings, near duplicates."""
    with request.app.state.database.read() as connection:
        return images.details(connection, user, image)


@router.get("/images/{image}/history")
def get_history(request: Request, user: who.Tagger, image: int) -> list[dict[str, Any]]:
    """Who changed what of an image, and when; newest first."""
    with request.app.state.database.read() as connection:
        images.get(connection, image)
        return images.history(connection, image)
