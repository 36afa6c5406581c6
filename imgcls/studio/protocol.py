"""HTTP on a connection: as uvicorn does it, but a client must send its headers in time."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from imgcls.studio.limits import Limits


class HeaderTimeout(H11Protocol):
    """Closes a connection whose next request has begun, or that is new, without whole headers.

    A client that sends one byte now and then would otherwise hold its connection for ever. What
    follows the headers is watched by `imgcls.studio.wire.Body`.

    Attributes:
      seconds: that the headers of a request may take.
    """

    seconds = Limits.header
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._timer = self.loop.call_later(self.seconds, self._close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        waits = self.cycle is None or self.cycle.response_complete
        if not waits:
            self._cancel()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._timer = None
        self.transport.close()
