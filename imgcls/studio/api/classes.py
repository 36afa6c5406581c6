"""Classes of a data set."""

from typing import Any

from fastapi import APIRouter, Request

from imgcls.studio.api import who
from imgcls.studio.api.bodies import ClassChange, Merge, NewClasses, Write
from imgcls.studio.store import classes

router = APIRouter(prefix="/api", tags=["classes"])


@router.get("/datasets/{dataset}/classes")
def list_classes(request: Request, user: who.Tagger, dataset: int) -> list[dict[str, Any]]:
    """The classes in their order, with the number of images that have them."""
    with request.app.state.database.read() as connection:
        return classes.listing(connection, dataset)


@router.post("/datasets/{dataset}/classes")
def create_classes(
    request: Request, user: who.Tagger, dataset: int, body: NewClasses
) -> dict[str, Any]:
    """Make classes, many at once: `{"seq", "ids"}`."""
    wanted = body.given()["classes"]
    write = request.app.state.database.write
    return write(classes.create, user, dataset, body.request_id, wanted)


@router.patch("/classes/{class_id}")
def change_class(
    request: Request, user: who.Tagger, class_id: int, body: ClassChange
) -> dict[str, Any]:
    """Rename a class, or change its color, hotkey, description, position or attributes."""
    values = {k: v for k, v in body.given().items() if v is not None or k == "hotkey"}
    write = request.app.state.database.write
    return write(classes.update, user, class_id, body.request_id, **values)


@router.get("/classes/{class_id}/effect")
def get_effect(
    request: Request, user: who.Tagger, class_id: int, merge_into: int | None = None
) -> dict[str, Any]:
    """What deleting or merging a class does to the tags, before it is done."""
    with request.app.state.database.read() as connection:
        return classes.effect(connection, class_id, merge_into)


@router.post("/classes/{class_id}/merge")
def merge_class(request: Request, user: who.Reviewer, class_id: int, body: Merge) -> dict[str, Any]:
    """Merge a class into another."""
    write = request.app.state.database.write
    return write(classes.merge, user, class_id, body.into, body.request_id)


@router.delete("/classes/{class_id}")
def delete_class(
    request: Request, user: who.Reviewer, class_id: int, body: Write
) -> dict[str, Any]:
    """Delete a class. Undo brings it back with its tags."""
    return request.app.state.database.write(classes.delete, user, class_id, body.request_id)
