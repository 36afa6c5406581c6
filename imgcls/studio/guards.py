"""What stands before the API, as plain ASGI: host, origin, login and limits.

Two threats are met that a server on 127.0.0.1 has although no network reaches it: a page of
another site that sends requests to it from the same browser (refused by `Origin` and
`Sec-Fetch-Site`), and a page whose name is made to point to 127.0.0.1 (DNS rebinding, refused by
`Host`).
"""

import asyncio
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from imgcls.core.errors import ConfigError
from imgcls.studio.errors import Forbidden, Misdirected, NotSignedIn, Refused, TooMany
from imgcls.studio.limits import Buckets, Limits, retry_after
from imgcls.studio.wire import PUBLIC, Body, Receive, Response, Scope, Send, read_headers

LOOPBACK = ("127.0.0.1", "localhost", "::1")
READS = ("GET", "HEAD", "OPTIONS")
LOGIN = "/api/login"
# Paths that carry files, and may be larger than JSON.
UPLOADS = re.compile(r"/api/(datasets/[^/]+/(upload|import)|uploads/[^/]+)")
# Who a token belongs to is looked up again after this many seconds.
REMEMBERED = 1.0


class Person(Protocol):
    """Who sends a request."""

    @property
    def id(self) -> int: ...


class Door(Protocol):
    """Who may come in, see `imgcls.studio.store.users.People`. Each method asks the database."""

    def local(self) -> Person | None:
        """The owner of a home without users; None once it has users."""
        ...

    def of_token(self, token: str) -> Person | None:
        """The active user with this token."""
        ...

    def of_session(self, cookie: str) -> Person | None:
        """The active user who logged in with this cookie."""
        ...


def check_bind(host: str, has_users: bool) -> None:
    """Raises a ConfigError where anybody on a network could come in.

    Args:
      host: the address to listen at.
      has_users: the home has a user with a token.
    """
    if host not in LOOPBACK and not has_users:
        raise ConfigError(
            f"--host={host} is reached from the network, and this home has no users; first write "
            "imgcls studio user add NAME --role=owner, or leave out --host"
        )


def cookie_name(host: str) -> str:
    """Browsers send cookies to all ports of a host, so each server's has its port in its name."""
    port = _split_host(host)[1]
    return f"imgcls_studio_{port}" if port else "imgcls_studio"


class Guard:
    """Checks each request before `app` sees it; `scope["state"]["user"]` is who sent it.

    Args:
      people: who may come in.
      hosts: names of this server besides the loopback ones.
      network: the server listens at more than the loopback address. Then it may be opened at each
        numeric address: only names can be made to point elsewhere.
    """

    def __init__(
        self,
        app,
        people: Door,
        hosts: Iterable[str] = (),
        network: bool = False,
        limits: Limits | None = None,
    ):
        self.app, self._people, self._network = app, people, network
        self._limits = limits or Limits()
        self._hosts = {*LOOPBACK, *(host.lower() for host in hosts)}
        self._failures = Buckets(*self._limits.failures)
        self._writes = Buckets(*self._limits.writes)
        self._known: dict[tuple[str, str], float] = {}
        self._recent: dict[tuple[str, str], tuple[float, Person | None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        body, response = None, Response(send, scope)
        try:
            headers = read_headers(scope)
            self._check_host(headers)
            self._check_site(scope, headers)
            body = Body(receive, self._largest(scope), headers, self._limits)
            scope.setdefault("state", {})
            scope["state"] |= {"guard": self, "user": await self._who(scope, headers)}
            response.body = body
            await self.app(scope, body.receive, response.send)
        except Refused as refused:
            await response.refuse(refused)
        except Exception:
            if body is None or body.refused is None:
                raise
        if body is not None and body.refused is not None:
            await response.refuse(body.refused)

    def forget(self) -> None:
        """Looks everybody up again: a user or a token changed."""
        self._recent.clear()

    def failed_login(self, scope: Scope) -> None:
        """Counts a wrong token that was posted to /api/login."""
        self._failures.take(_network_of(scope))

    def _largest(self, scope: Scope) -> int:
        return self._limits.upload if UPLOADS.fullmatch(scope["path"]) else self._limits.body

    def _check_host(self, headers: Mapping[str, str]) -> None:
        name = _split_host(headers.get("host", ""))[0]
        if name not in self._hosts and not (self._network and _is_address(name)):
            raise Misdirected(
                f"this server is not called {name!r}; open it at 127.0.0.1, or start it with "
                "--hosts=NAME"
            )

    def _check_site(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Refuses requests that a page of another site makes, as browsers mark them.

        Following a link to the page itself is the exception. Programs send neither header.
        """
        opens_page = (
            scope["method"] == "GET"
            and PUBLIC.fullmatch(scope["path"])
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        )
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and not opens_page:
            raise Forbidden("requests from pages of another site are refused")
        origin = headers.get("origin")
        if origin is not None and not _same_host(origin, headers["host"]):
            raise Forbidden("requests from pages of another origin are refused")

    async def _who(self, scope: Scope, headers: Mapping[str, str]) -> Person | None:
        """Who sends the request; None only where nobody has to be known.

        Raises:
          Refused: nobody, a wrong token, too many of them, or too many writes.
        """
        if scope["path"] == LOGIN:
            if wait := self._failures.wait(_network_of(scope)):
                raise _too_many_failures(wait)
            return None
        if scope["method"] in READS and PUBLIC.fullmatch(scope["path"]):
            return None
        user = await self._look_up("local", "", lambda _: self._people.local())
        if user is None:
            user = await self._of_secret(scope, headers)
        if scope["method"] not in READS and (wait := self._writes.take(user.id)):
            raise TooMany("too many requests that write; send them more slowly", retry_after=wait)
        return user

    async def _of_secret(self, scope: Scope, headers: Mapping[str, str]) -> Person:
        kind, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip() if kind.lower() == "bearer" else ""
        session = "" if token else _cookie(headers, cookie_name(headers["host"]))
        if not (token or session):
            raise NotSignedIn(
                "log in: send the header Authorization: Bearer TOKEN, or POST the token to "
                "/api/login"
            )
        address, secret = _network_of(scope), token or session
        wait = self._failures.wait(address)
        if wait and (address, secret) not in self._known:
            raise _too_many_failures(wait)
        if token:
            user = await self._look_up("token", token, self._people.of_token)
        else:
            user = await self._look_up("session", session, self._people.of_session)
        if user is None:
            self._known.pop((address, secret), None)
            if token:  # An old cookie is no guess.
                self._failures.take(address)
            raise NotSignedIn("unknown or revoked token; ask an owner of this home for a new one")
        self._known.pop((address, secret), None)
        self._known[address, secret] = time.monotonic()
        if len(self._known) > 10_000:
            self._known.pop(next(iter(self._known)))
        return user

    async def _look_up(
        self, kind: str, secret: str, look: Callable[[str], Person | None]
    ) -> Person | None:
        then, user = self._recent.get((kind, secret), (-REMEMBERED, None))
        if time.monotonic() - then >= REMEMBERED:
            user = await asyncio.to_thread(look, secret)
            if len(self._recent) > 1000:
                self._recent.clear()
            self._recent[kind, secret] = (time.monotonic(), user)
        return user


def _too_many_failures(wait: float) -> Refused:
    line = f"too many wrong tokens from this address; try again in {retry_after(wait)} s"
    return TooMany(line, retry_after=wait)


def _split_host(host: str) -> tuple[str, str]:
    """`(name, port)` of a Host header; an IPv6 address without its brackets."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]@/\\\s]*)(?::(\d{1,5}))?", host)
    if not match:
        raise Refused("the Host header is malformed")
    return match[1].strip("[]").lower().removesuffix("."), match[2] or ""


def _same_host(origin: str, host: str) -> bool:
    scheme, _, rest = origin.partition("://")
    default = {"http": "80", "https": "443"}.get(scheme)
    if default is None:
        return False
    try:
        name, port = _split_host(rest)
    except Refused:
        return False
    own_name, own_port = _split_host(host)
    return (name, port or default) == (own_name, own_port or default)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _network_of(scope: Scope) -> str:
    """The client's address; of an IPv6 address the network, of which one client has every one."""
    address = (scope.get("client") or ("",))[0]
    if ":" not in address or not _is_address(address):
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))


def _cookie(headers: Mapping[str, str], name: str) -> str:
    for part in headers.get("cookie", "").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return ""
