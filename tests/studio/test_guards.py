"""The guard around a small application, on a real server where time matters."""

import contextlib
import socket
import threading
import time

import pytest
import uvicorn
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from imgcls.core.errors import ConfigError
from imgcls.studio.guards import Guard, check_bind, cookie_name
from imgcls.studio.limits import Limits
from imgcls.studio.protocol import HeaderTimeout
from imgcls.studio.store.users import User

OWNER, TAGGER = User(1, "o", "owner"), User(2, "t", "tagger")


class Known:
    """People with fixed tokens."""

    def __init__(self, open_home: bool):
        self.open_home = open_home

    def local(self):
        return OWNER if self.open_home else None

    def of_token(self, token):
        return {"right": TAGGER}.get(token)

    def of_session(self, session):
        return {"cookie": TAGGER}.get(session)


def guarded(open_home=True, limits=None, **settings) -> Guard:
    app = FastAPI()

    @app.post("/api/thing")
    async def post(request: Request) -> dict:
        return {"user": request.state.user.id, "bytes": len(await request.body())}

    @app.get("/api/thing")
    def get(request: Request) -> dict:
        return {"user": request.state.user.id}

    @app.post("/api/login")
    def login(request: Request) -> dict:
        request.state.guard.failed_login(request.scope)
        return {}

    app.put("/api/uploads/1")(post)
    app.get("/")(lambda: {})
    return Guard(app, Known(open_home), limits=limits, **settings)


def client(*args, **kwargs) -> TestClient:
    return TestClient(guarded(*args, **kwargs), base_url="http://127.0.0.1:8765")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8765", "localhost", "LOCALHOST:1", "[::1]:8765", "localhost."]
)
def test_own_names(host):
    assert client().get("/api/thing", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "10.0.0.5", "0.0.0.0", ""],
)
def test_dns_rebinding_is_refused(host):
    answer = client().get("/api/thing", headers={"host": host})
    assert answer.status_code == 421 and "not called" in answer.json()["error"]
    # Not the page's files either.
    assert client().get("/", headers={"host": host}).status_code == 421


def test_malformed_and_repeated_hosts():
    for host in ("a@b", "127.0.0.1:8765/x", "127.0.0.1 x", "127.0.0.1:port"):
        assert client().get("/api/thing", headers={"host": host}).status_code == 400
    twice = [("host", "127.0.0.1"), ("host", "evil.example")]
    assert client().get("/api/thing", headers=twice).status_code == 400


def test_names_and_addresses_on_a_network():
    network = client(network=True, hosts=["Studio.lab"])
    for host, status in [("10.0.0.5:80", 200), ("studio.lab", 200), ("evil.example", 421)]:
        assert network.get("/api/thing", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1:8765.evil.example"},
        {"origin": "file://"},
        {"origin": "http://127.0.0.1:8765@evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_cross_site_requests_are_refused(headers, method):
    assert client().request(method, "/api/thing", headers=headers).status_code == 403


def test_own_pages_and_links_to_the_page_are_let_in():
    own = {"origin": "http://127.0.0.1:8765", "sec-fetch-site": "same-origin"}
    assert client().post("/api/thing", headers=own).status_code == 200
    tls = {"origin": "https://studio.lab", "host": "studio.lab"}
    assert client(hosts=["studio.lab"]).post("/api/thing", headers=tls).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client().get("/", headers=link | {"sec-fetch-dest": "document"}).status_code == 200
    for dest in ("iframe", "script", "embed"):
        assert client().get("/", headers=link | {"sec-fetch-dest": dest}).status_code == 403


def test_a_home_without_users_is_the_owners():
    assert client().get("/api/thing").json() == {"user": 1}


def test_with_users_a_token_or_cookie_is_needed():
    c = client(open_home=False)
    assert c.get("/").status_code == 200  # The page asks for the token.
    for headers in ({}, {"authorization": "Basic right"}, {"authorization": "Bearer"}):
        answer = c.get("/api/thing", headers=headers)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    for path in ("/api/thing?token=right", "/openapi.json", "//api/thing", "/API/thing", "/x"):
        assert c.get(path).status_code == 401
    assert c.post("/page/x").status_code == 401
    assert c.get("/api/thing", headers={"authorization": "Bearer right"}).json() == {"user": 2}
    assert c.get("/api/thing", headers={"authorization": "bearer wrong"}).status_code == 401
    cookie = {"cookie": f"a=b; {cookie_name('127.0.0.1:8765')}=cookie"}
    assert c.get("/api/thing", headers=cookie).json() == {"user": 2}
    # A cookie that another server on this machine has set.
    other = {"cookie": f"{cookie_name('127.0.0.1:1234')}=cookie"}
    assert c.get("/api/thing", headers=other).status_code == 401


def test_guessing_tokens_ends_after_a_few():
    c = client(open_home=False, limits=Limits(failures=(5, 0.001)))
    good = {"authorization": "Bearer right"}
    assert c.get("/api/thing", headers=good).status_code == 200
    codes = [
        c.get("/api/thing", headers={"authorization": f"Bearer {n}"}).status_code for n in range(8)
    ]
    assert codes == [401] * 5 + [429] * 3
    answer = c.post("/api/login", json={"token": "right"})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 100
    # Who was in already stays in.
    assert c.get("/api/thing", headers=good).status_code == 200


def test_guessing_at_the_login():
    c = client(open_home=False, limits=Limits(failures=(3, 0.001)))
    assert [c.post("/api/login").status_code for _ in range(5)] == [200] * 3 + [429] * 2
    # From now on a right token is refused too, if it was not known before.
    assert c.get("/api/thing", headers={"authorization": "Bearer right"}).status_code == 429


def test_writes_are_limited_and_reads_are_not():
    c = client(limits=Limits(writes=(3, 0.001)))
    answers = [c.post("/api/thing") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429]
    assert "retry-after" in answers[-1].headers and "more slowly" in answers[-1].json()["error"]
    assert c.get("/api/thing").status_code == 200


def test_large_bodies_are_refused_whatever_they_say():
    c = client(limits=Limits(body=1000, upload=5000))
    assert c.post("/api/thing", content=bytes(1000)).json()["bytes"] == 1000
    assert c.post("/api/thing", content=bytes(1001)).status_code == 413
    chunks = (bytes(100) for _ in range(11))  # No Content-Length.
    answer = c.post("/api/thing", content=chunks)
    assert answer.status_code == 413 and "1,000 bytes" in answer.json()["error"]
    assert c.put("/api/uploads/1", content=bytes(5000)).json()["bytes"] == 5000
    assert c.put("/api/uploads/1", content=bytes(5001)).status_code == 413
    for length in ("-1", "1e3", "٣"):
        answer = c.post("/api/thing", headers={"content-length": length.encode()})
        assert answer.status_code == 400


def test_headers_of_the_page_the_api_and_refusals():
    c = client()
    page, api = c.get("/"), c.get("/api/thing")
    refused = c.get("/api/thing", headers={"origin": "null"})
    for answer in (page, api, refused, c.get("/api/no")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for answer in (api, refused):
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


def test_web_sockets_are_closed():
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client().websocket_connect("/api/thing"):
        pass


def test_another_host_only_with_users():
    check_bind("127.0.0.1", False)
    check_bind("0.0.0.0", True)
    for host in ("0.0.0.0", "::", "192.168.1.5", "studio.lab"):
        with pytest.raises(ConfigError, match="user add NAME"):
            check_bind(host, False)


@contextlib.contextmanager
def running(app):
    """A real server; yields its port."""
    config = uvicorn.Config(app, port=0, log_level="error", http=HeaderTimeout)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Sends parts with a pause after each; returns all that the server answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                answer += data
        return answer


HEAD = b"POST /api/thing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"


def test_slow_uploads_and_slow_headers_are_ended(monkeypatch):
    monkeypatch.setattr(HeaderTimeout, "seconds", 0.3)
    limits = Limits(pause=0.3, grace=0.2, slowest=10_000)
    with running(guarded(limits=limits)) as port:
        answer = talk(port, HEAD)
        assert b" 408 " in answer and b"paused" in answer and b"connection: close" in answer
        answer = talk(port, HEAD, *[b"x"] * 8, pause=0.1)
        assert b" 408 " in answer and b"too slowly" in answer
        assert talk(port, b"GET /api/thing HTTP/1.1\r\nHo") == b""
        assert talk(port, b"") == b""
        again = b"GET /api/thing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        answer = talk(port, again + b"GET /api/thi", *[b"n"] * 8, pause=0.1)
        assert answer.count(b" 200 ") == 1
        # A fast one on the same server, and one that is slow within the limits.
        body = [bytes(250)] * 4
        assert b'"bytes":1000' in talk(
            port, HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), *body
        )


def test_request_smuggling(monkeypatch):
    """Two lengths of one body: the request is refused and the connection closed."""
    monkeypatch.setattr(HeaderTimeout, "seconds", 0.3)
    with running(guarded()) as port:
        for lines in (
            b"Content-Length: 3\r\nContent-Length: 4\r\n",
            b"Content-Length: 3\r\nTransfer-Encoding: chunked, identity\r\n",
            b"Transfer-Encoding: xchunked\r\n",
        ):
            head = b"POST /api/thing HTTP/1.1\r\nHost: 127.0.0.1\r\n" + lines + b"\r\n"
            answer = talk(port, head + b"abcGET /api/thing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b" 200 " not in answer
