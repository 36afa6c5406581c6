"""Uploads in parts, and files on the server that are registered where they are."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.requests import ClientDisconnect

from imgcls.studio.api import who
from imgcls.studio.api.bodies import Id, Write
from imgcls.studio.pictures.ingest import Item
from imgcls.studio.pictures.registered import find_files
from imgcls.studio.store import changes

router = APIRouter(prefix="/api", tags=["upload"])

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_PIECE = 1 << 20
_BYTES = {"requestBody": {"content": {"application/octet-stream": {}}, "required": True}}


class NewUpload(Write):
    """A file that comes in parts. `name` may have folders; `sha256` is compared at the end."""

    dataset: Id
    name: Annotated[str, Field(min_length=1, max_length=1000)]
    size: Annotated[int, Field(ge=0, le=2**53)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None


class Registration(Write):
    """Absolute paths of files and folders of the server, below `--roots`."""

    paths: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1)]


@router.post("/uploads")
def begin_upload(request: Request, user: who.Tagger, body: NewUpload) -> dict[str, Any]:
    """Begin an upload: `{"id", "received", "size"}`. The same request again finds it."""
    return request.app.state.uploads.begin(
        user, body.dataset, body.request_id, body.name, body.size, body.sha256
    )


@router.get("/uploads/{key}")
def get_upload(request: Request, user: who.Tagger, key: Key) -> dict[str, Any]:
    """How many bytes are here: `{"id", "received", "size"}`."""
    return request.app.state.uploads.state(user, key)


@router.put("/uploads/{key}", openapi_extra=_BYTES)
async def continue_upload(
    request: Request,
    user: who.Tagger,
    key: Key,
    offset: Annotated[int, Query(ge=0, le=2**53)],
) -> dict[str, Any]:
    """Send bytes from `offset` on, as the body: `{"received"}`. 409 says where it stopped."""
    writing = request.app.state.uploads.writing(user, key, offset)
    part = await asyncio.to_thread(writing.__enter__)
    try:
        piece = bytearray()
        async for data in request.stream():
            piece += data
            if len(piece) >= _PIECE:
                await asyncio.to_thread(part.write, bytes(piece))
                piece.clear()
        await asyncio.to_thread(part.write, bytes(piece))
        return {"received": await asyncio.to_thread(part.end)}
    except ClientDisconnect:
        return {}  # Nobody reads it.
    finally:
        await asyncio.shield(asyncio.to_thread(writing.__exit__, None, None, None))


@router.post("/uploads/{key}/finish")
def finish_upload(request: Request, user: who.Tagger, key: Key, body: Write) -> dict[str, Any]:
    """Take the uploaded file, or the files in a zip, into the data set: as `upload`."""
    state = request.app.state
    with state.database.read() as connection:
        if again := changes.repeated(connection, body.request_id, user.id, "upload"):
            return again
    with state.uploads.finishing(user, key) as (dataset, items, unreadable):
        result = state.ingest.run(user, dataset, items, body.request_id)
    return {**result, "unreadable": unreadable + result["unreadable"]}


@router.delete("/uploads/{key}")
def delete_upload(request: Request, user: who.Tagger, key: Key) -> dict[str, Any]:
    """Give an upload up."""
    request.app.state.uploads.delete(user, key)
    return {}


@router.post("/datasets/{dataset}/register")
def register(request: Request, user: who.Owner, dataset: int, body: Registration) -> dict[str, Any]:
    """Add files of the server without copying them, as `upload`: those in folders too."""
    state = request.app.state
    items: list[Item] = []
    unreadable: list[dict[str, str]] = []
    for path, folder, why in find_files(body.paths, state.settings.roots):
        if why:
            unreadable.append({"name": str(path), "why": why})
        else:
            items.append(Item(path, path.name, folder, registered=True))
    result = state.ingest.run(user, dataset, items, body.request_id)
    return {**result, "unreadable": unreadable + result["unreadable"]}
