"""News of a home, for the pages that show it."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.store import datasets
from imgcls.studio.store.connect import Database
from imgcls.studio.store.schema import change, change_image

# Changes with more images than this are told without them.
MOST_IMAGES = 500
# Changes that a client has missed, at most; beyond, it is told to read everything again.
MOST_MISSED = 1000
# Changes within this time are told together.
_REST = 0.03


class Subscription:
    """What one client is told of a data set.

    Attributes:
      queue: (seq or None, kind, data). None as the whole: too slow, the client has to reconnect.
    """

    def __init__(self, dataset_id: int):
        self.dataset_id = dataset_id
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[tuple[int | None, str, str] | None] = asyncio.Queue()

    def put(self, item: tuple[int | None, str, str]) -> None:
        """Adds an item; on the loop's thread."""
        if self.queue.qsize() < 2 * MOST_MISSED:
            self.queue.put_nowait(item)
        elif self.queue.qsize() == 2 * MOST_MISSED:
            self.queue.put_nowait(None)


class Events:
    """Tells the clients of each data set what was committed.

    One thread reads the new rows of `change`, whatever the number of clients.
    """

    def __init__(self, database: Database):
        self._database = database
        self._subscriptions: set[Subscription] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        with database.read() as connection:
            query = sa.select(sa.func.max(change.c.seq))
            self._seq: int = connection.execute(query).scalar() or 0
        database.writer.listeners.append(self._wake.set)
        self._thread = threading.Thread(target=self._loop, name="studio-events", daemon=True)
        self._thread.start()

    def publish(self, dataset_id: int, kind: str, data: dict[str, Any]) -> None:
        """Tells something that is no change: the progress of a run or an upload."""
        self._send(dataset_id, (None, kind, json.dumps(data)))

    @contextlib.contextmanager
    def subscribe(self, dataset_id: int) -> Iterator[Subscription]:
        """The news of a data set from now on."""
        subscription = Subscription(dataset_id)
        with self._lock:
            self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions.discard(subscription)

    def missed(self, dataset_id: int, since: int) -> list[tuple[int, str, str]]:
        """The changes after a seq."""
        with self._database.read() as connection:
            found = _read(connection, since, dataset_id)
            seq = datasets.last_seq(connection, dataset_id)
        if len(found) > MOST_MISSED:
            data = {"seq": seq, "kind": "many", "user": None, "images": None}
            return [(seq, "change", json.dumps(data))]
        return [(data["seq"], "change", json.dumps(data)) for _, data in found]

    def close(self) -> None:
        """Ends the thread."""
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(_REST)
            self._wake.clear()
            if self._closed:
                return
            with self._database.read() as connection:
                found = _read(connection, self._seq)
            for dataset_id, data in found:
                self._seq = data["seq"]
                self._send(dataset_id, (data["seq"], "change", json.dumps(data)))
            if len(found) > MOST_MISSED:
                self._wake.set()

    def _send(self, dataset_id: int | None, item: tuple[int | None, str, str]) -> None:
        with self._lock:
            for subscription in self._subscriptions:
                if subscription.dataset_id == dataset_id:
                    with contextlib.suppress(RuntimeError):  # Its loop has ended.
                        subscription.loop.call_soon_threadsafe(subscription.put, item)


def _read(
    connection: Connection, since: int, dataset_id: int | None = None
) -> list[tuple[int, dict[str, Any]]]:
    query = (
        sa.select(change.c.seq, change.c.dataset_id, change.c.kind, change.c.user_id)
        .where(change.c.seq > since)
        .order_by(change.c.seq)
        .limit(MOST_MISSED + 1)
    )
    if dataset_id is not None:
        query = query.where(change.c.dataset_id == dataset_id)
    found = []
    for row in connection.execute(query).all():
        query = sa.select(change_image.c.image_id).where(change_image.c.seq == row.seq)
        ids = list(connection.execute(query.limit(MOST_IMAGES + 1)).scalars())
        images = ids if len(ids) <= MOST_IMAGES else None
        data = {"seq": row.seq, "kind": row.kind, "user": row.user_id, "images": images}
        found.append((row.dataset_id, data))
    return found
