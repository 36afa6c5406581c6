"""Server-sent events: what changes in a data set, as it changes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from imgcls.studio.api import who
from imgcls.studio.events import Events
from imgcls.studio.store import datasets

router = APIRouter(prefix="/api", tags=["events"])
# Seconds of silence after which a comment keeps the connection open.
_ALIVE = 15.0


@router.get("/events", response_class=StreamingResponse)
async def listen(
    request: Request,
    user: who.Tagger,
    dataset: int,
    last: int | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """The changes of a data set, and the progress of its runs and uploads.

    The id of a `change` is its `seq`. With `Last-Event-ID` (or `last`) the stream begins with the
    changes after it.
    """
    since = last
    if last_event_id is not None and last_event_id.isdecimal():
        since = int(last_event_id)
    await asyncio.to_thread(_check, request, dataset)
    stream = _stream(request.app.state.events, dataset, since)
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


def _check(request: Request, dataset: int) -> None:
    with request.app.state.database.read() as connection:
        datasets.get(connection, dataset)


async def _stream(events: Events, dataset: int, since: int | None) -> AsyncIterator[str]:
    with events.subscribe(dataset) as subscription:
        yield "retry: 2000\n\n"
        sent = 0
        if since is not None:
            for seq, kind, data in await asyncio.to_thread(events.missed, dataset, since):
                yield f"id: {seq}\nevent: {kind}\ndata: {data}\n\n"
                sent = seq
        while True:
            try:
                item = await asyncio.wait_for(subscription.queue.get(), _ALIVE)
            except TimeoutError:
                yield ": alive\n\n"
                continue
            if item is None:
                return
            seq, kind, data = item
            if seq is None:
                yield f"event: {kind}\ndata: {data}\n\n"
            elif seq > sent:
                yield f"id: {seq}\nevent: {kind}\ndata: {data}\n\n"
