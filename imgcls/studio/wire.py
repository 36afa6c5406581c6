"""What passes between a client and the API: bodies that are watched, responses with headers."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from imgcls.core.errors import one_line
from imgcls.studio.errors import Refused, TooLarge, TooSlow
from imgcls.studio.limits import Limits, retry_after

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# The page's own files, which hold nothing of the home.
PUBLIC = re.compile(r"/|/docs|/favicon\.ico|/d/.*|/page/.*")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self'; frame-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# Whatever the API returns, a browser that opens it as a page runs nothing in it.
API_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
# A run's report has its scripts and styles in it. It gets no origin, and so no access to the API.
REPORT_POLICY = (
    "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "frame-ancestors 'self'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def read_headers(scope: Scope) -> dict[str, str]:
    """The request's headers by lower-case name.

    Raises:
      Refused: one that decides who asks is given twice, so that two readers could differ.
    """
    out: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in out and name in ("host", "origin", "authorization", "content-length"):
            raise Refused(f"the header {name} is given twice; send it once")
        joint = "; " if name == "cookie" else ", "
        text = value.decode("latin-1")
        out[name] = f"{out[name]}{joint}{text}" if name in out else text
    return out


class Body:
    """The body of a request, whose size and speed are watched while it is read.

    Attributes:
      refused: why it is not read further; None as long as it is.

    Raises:
      Refused: it says that it is larger than `largest` bytes.
    """

    def __init__(self, receive: Receive, largest: int, headers: Mapping[str, str], limits: Limits):
        self._receive, self._largest, self._limits = receive, largest, limits
        self._read, self._start, self._ended = 0, time.monotonic(), False
        self.refused: Refused | None = None
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise Refused("Content-Length is no number; write the body's bytes")
        if int(length) > largest:
            raise self._too_large()

    async def receive(self) -> dict[str, Any]:
        """The next message; raises a `Refused`, and keeps it, for a body that breaks a limit."""
        if self._ended:  # What follows is the client's leaving, for which there is no hurry.
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._limits.pause)
        except TimeoutError:
            raise self._refuse(TooSlow("the body paused for too long; send it again")) from None
        if message["type"] != "http.request":
            return message
        self._read += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._read > self._largest:
            raise self._refuse(self._too_large())
        late = time.monotonic() - self._start - self._limits.grace
        if not self._ended and late > 0 and self._read < late * self._limits.slowest:
            raise self._refuse(TooSlow("the body comes too slowly; send it again in smaller parts"))
        return message

    def _refuse(self, refused: Refused) -> Refused:
        self.refused = refused
        return refused

    def _too_large(self) -> Refused:
        line = f"a request may have {self._largest:,} bytes at most; send files in parts"
        return TooLarge(f"{line} by POST /api/uploads")


class Response:
    """Adds the headers to a response, and replaces the response to a body that broke a limit."""

    def __init__(self, send: Send, scope: Scope):
        self._send = send
        self._is_api = not PUBLIC.fullmatch(scope["path"])
        self._started = False
        self.body: Body | None = None

    async def send(self, message: dict[str, Any]) -> None:
        """Sends a message of the app."""
        if self.body is not None and self.body.refused is not None and not self._started:
            return  # The app's own view of why it could not read the body.
        if message["type"] == "http.response.start":
            self._started = True
            message = {**message, "headers": self._with_headers(message.get("headers", ()))}
        await self._send(message)

    def _with_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = list(headers)
        given = {name.lower() for name, _ in headers}
        more = dict(HEADERS)
        more["content-security-policy"] = API_POLICY if self._is_api else PAGE_POLICY
        if self._is_api:
            more["cache-control"] = "no-store"
        if b"content-security-policy" in given:  # It says who may frame the response.
            del more["x-frame-options"]
        return headers + [
            (name.encode(), value.encode())
            for name, value in more.items()
            if name.encode() not in given
        ]

    async def refuse(self, refused: Refused) -> None:
        """Sends a refusal and closes the connection: the rest of a body is not read."""
        if self._started:
            return
        self.body = None
        text = json.dumps({"error": one_line(refused), **refused.details}).encode()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(text)),
            "connection": "close",
        }
        if "retry_after" in refused.details:
            headers["retry-after"] = retry_after(refused.details["retry_after"])
        if refused.status == 401:
            headers["www-authenticate"] = "Bearer"
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refused.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": text})
