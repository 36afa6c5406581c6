"""Attacks on a served home with users, through its API: each is refused or does no harm.

The guard's own are in `test_guards`, hostile zips in `pictures/test_archives`, paths on the server
in `pictures/test_registered`, hostile backups in `test_backup`.
"""

import io
import json
import struct
import uuid
import zlib

import pytest
from PIL import Image
from starlette.testclient import TestClient

from imgcls.studio.app import create_app
from imgcls.studio.home import Home
from imgcls.studio.settings import Settings
from tests.studio.pictures.test_uploads import png, zipped

URL = "http://127.0.0.1:8765"
XSS = "<img src=x onerror=alert(1)>\"'`{{7*7}}${7*7}</script><script>alert(2)</script>"
SQL = ["' OR 1=1 --", "1; DROP TABLE image", "%' UNION SELECT token_hash FROM user --", "\\", "%_"]


class People:
    """A served home: one client for each role, with a data set, two classes and two images."""

    def __init__(self, app):
        self.app = app
        local = self._client()
        self.owner = self._client(self._add(local, "Ada", "owner"))
        self.tagger = self._client(self._add(self.owner, "Bo", "tagger"))
        self.other = self._client(self._add(self.owner, "Di", "tagger"))
        self.reviewer = self._client(self._add(self.owner, "Cy", "reviewer"))
        self.nobody = local
        self.write(self.owner, "POST", "/api/datasets", name="d")
        classes = [{"name": "cat"}, {"name": "dog"}]
        self.write(self.owner, "POST", "/api/datasets/1/classes", classes=classes)
        self.images = [self.upload(f"{n}.png", png(n))["added"][0] for n in (1, 2)]

    def _client(self, token: str = "") -> TestClient:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return TestClient(self.app, URL, headers=headers, raise_server_exceptions=True)

    def _add(self, client, name, role) -> str:
        return client.post("/api/users", json={"name": name, "role": role}).json()["token"]

    def write(self, client, method, path, **body):
        return client.request(method, path, json={"request_id": str(uuid.uuid4()), **body})

    def upload(self, name: str, data: bytes) -> dict:
        answer = self.tagger.post("/api/datasets/1/upload", files={"files": (name, data)})
        assert answer.status_code < 500, answer.text
        return answer.json()

    def tag(self, client, **item):
        item = {"image": self.images[0], "add": {"1": {}}, **item}
        return self.write(client, "POST", "/api/datasets/1/answers", items=[item])


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    root = tmp_path_factory.mktemp("attacks")
    (root / "root").mkdir()
    (root / "secret.py").write_text("open('owned', 'w')")
    app = create_app(Home(root / "home"), Settings(roots=(str(root / "root"),)))
    with TestClient(app, URL):
        yield People(app)


# ---- Without a token, or with too small a role.


def api_paths(app) -> list[tuple[str, str]]:
    """Each request of the API, with 1 for each parameter of its path."""
    found = []
    for path, methods in app.openapi()["paths"].items():
        real = "/".join("1" if part.startswith("{") else part for part in path.split("/"))
        found += [(method.upper(), real) for method in methods]
    return found


def test_a_stranger_reads_and_writes_nothing(people):
    paths = api_paths(people.app)
    assert len(paths) > 50
    for method, path in [*paths, ("GET", "/openapi.json")]:
        answer = people.nobody.request(method, path, json={})
        expected = {401} if path != "/api/login" else {401, 422}
        assert answer.status_code in expected, (method, path, answer.status_code)
        assert "Traceback" not in answer.text and answer.json().keys() >= {"error"}


OWNERS = [
    ("POST", "/api/users", {"name": "Eve", "role": "owner"}),
    ("PATCH", "/api/users/3", {"role": "owner"}),
    ("PATCH", "/api/users/2", {"active": False}),
    ("PATCH", "/api/users/2", {"token": True}),
    ("POST", "/api/datasets", {"name": "mine"}),
    ("PATCH", "/api/datasets/1", {"name": "mine"}),
    ("PATCH", "/api/datasets/1", {"archived": True}),
    ("DELETE", "/api/classes/1", {}),
    ("POST", "/api/classes/1/merge", {"into": 2}),
    ("POST", "/api/datasets/1/register", {"paths": ["/etc/passwd"]}),
    ("POST", "/api/datasets/1/runs", {"recipe": "own"}),
    ("POST", "/api/datasets/1/versions", {}),
    (
        "POST",
        "/api/datasets/1/bulk",
        {"select": {"filter": {}}, "action": {"remove": True}},
    ),
    (
        "POST",
        "/api/datasets/1/bulk",
        {"select": {"filter": {}}, "action": {"approve": True}},
    ),
]


@pytest.mark.parametrize("method, path, body", OWNERS, ids=[f"{m} {p}" for m, p, _ in OWNERS])
def test_a_tagger_does_not_get_more_rights(people, method, path, body):
    before = people.owner.get("/api/datasets/1").json()
    answer = people.write(people.tagger, method, path, **body)
    assert answer.status_code == 403, answer.text
    assert people.owner.get("/api/datasets/1").json() == before
    assert people.tagger.get("/api/me").json()["role"] == "tagger"


def test_another_users_upload_can_not_be_seen_or_finished(people):
    body = {"dataset": 1, "name": "a.png", "size": 3}
    key = people.write(people.tagger, "POST", "/api/uploads", **body).json()["id"]
    url = f"/api/uploads/{key}"
    assert people.other.get(url).status_code == 404
    assert people.other.put(f"{url}?offset=0", content=b"abc").status_code == 404
    assert people.write(people.other, "POST", f"{url}/finish").status_code == 404
    assert people.other.delete(url).status_code == 404
    assert people.tagger.get(url).json()["received"] == 0


def test_another_users_action_is_not_undone(people):
    people.tag(people.tagger, add={"1": {}})
    answer = people.write(people.other, "POST", "/api/undo", dataset=1)
    assert answer.status_code in (404, 409)
    details = people.owner.get(f"/api/images/{people.images[0]}").json()
    assert "Bo" in json.dumps(details)


def test_another_users_request_id_tells_nothing(people):
    mine = str(uuid.uuid4())
    people.tag(people.tagger)
    item = {"image": people.images[1], "add": {"1": {}}}
    body = {"request_id": mine, "items": [item]}
    assert people.tagger.post("/api/datasets/1/answers", json=body).status_code == 200
    answer = people.other.post("/api/datasets/1/answers", json=body)
    assert answer.status_code == 409 and "images" not in answer.json()


def test_nobody_answers_for_another(people):
    """There is no field for it: who answers is who asks."""
    for more in ({"user": 2}, {"user_id": 2}):
        assert people.tag(people.tagger, **more).status_code == 422


def test_images_and_classes_of_another_data_set(people):
    people.write(people.owner, "POST", "/api/datasets", name=f"e {uuid.uuid4()}")
    answer = people.write(
        people.tagger,
        "POST",
        "/api/datasets/2/answers",
        items=[{"image": people.images[0], "add": {"1": {}}}],
    )
    assert answer.status_code in (400, 404)
    answer = people.write(
        people.tagger,
        "POST",
        "/api/datasets/2/bulk",
        select={"ids": people.images},
        action={"tag": [1]},
    )
    assert answer.status_code in (400, 404) or answer.json()["changed"] == 0


# ---- Text that is code elsewhere.


def test_code_in_every_text_field_stays_text(people):
    """It comes back as it was, in JSON that no browser takes for a page."""
    write, owner = people.write, people.owner
    name = f"{XSS} {uuid.uuid4()}"[:190]
    d = write(owner, "POST", "/api/datasets", name=name).json()["id"]
    attribute = {"name": XSS, "kind": "choice", "options": [XSS, "b"]}
    new = {"name": XSS, "description": XSS, "attributes": [attribute]}
    (c,) = write(owner, "POST", f"/api/datasets/{d}/classes", classes=[new]).json()["ids"]
    file = {"files": (f"{XSS.replace('/', '')}.png", png(77))}
    (i,) = owner.post(f"/api/datasets/{d}/upload", files=file).json()["added"]
    item = {"image": i, "add": {str(c): {"text": XSS, "attributes": {"a1": XSS}}}, "comment": XSS}
    assert write(owner, "POST", f"/api/datasets/{d}/answers", items=[item]).status_code == 200
    for path in (
        "/api/datasets",
        f"/api/datasets/{d}",
        f"/api/datasets/{d}/classes",
        f"/api/images/{i}",
        f"/api/images/{i}/history",
        f"/api/datasets/{d}/history",
    ):
        answer = owner.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
    assert XSS in [row["name"] for row in owner.get(f"/api/datasets/{d}/classes").json()]


def test_code_in_paths_and_errors(people):
    for path in (f"/api/{XSS}", f"/d/{XSS}", f"/page/{XSS}", f"/api/images/{XSS}", f"/{XSS}"):
        answer = people.owner.get(path)
        if "html" in answer.headers["content-type"]:  # The page itself, which is always the same.
            assert answer.text == people.owner.get("/").text
        else:
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("text", SQL)
def test_sql_in_filters_finds_nothing_and_harms_nothing(people, text):
    before = people.owner.get("/api/datasets/1/ids").json()["count"]
    for key in ("text", "folder", "class", "status", "split", "finding", "flag", "sort", "cluster"):
        answer = people.tagger.get("/api/datasets/1/ids", params={key: text})
        assert answer.status_code in (200, 400, 409, 422), answer.text
        if answer.status_code == 200 and text not in ("%_", "\\"):
            assert answer.json()["count"] == 0
        rest = answer.text.replace(json.dumps(text)[1:-1], "")  # It may be repeated.
        assert "sqlite" not in rest and "syntax" not in rest
    assert people.tagger.get("/api/datasets/1/ids?text=%25").json()["count"] == 0
    assert people.owner.get("/api/datasets/1/ids").json()["count"] == before


def test_headers_in_names(people):
    """A line end in a file's name does not become a header of the download."""
    name = 'a"\r\nSet-Cookie: evil=1\r\n\r\n<script>.png'
    raw = name.replace('"', "%22").replace("\r\n", "%0D%0A")
    result = people.upload(raw, png(41))
    answer = people.tagger.get(f"/api/images/{result['added'][0]}/original")
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-disposition"].startswith("attachment")


def test_nothing_leads_elsewhere(people):
    for path in ("//evil.example", "/d//evil.example", "/api/login?next=//evil.example", "/docs/"):
        answer = people.nobody.get(path, follow_redirects=False)
        assert "evil" not in answer.headers.get("location", "")
        assert answer.status_code != 302


@pytest.mark.parametrize(
    "path",
    [
        "/page/../app.py",
        "/page/..%2fapp.py",
        "/page/%2e%2e/%2e%2e/app.py",
        "/page/..%5capp.py",
        "/page//etc/passwd",
        "/page/%00",
        "/page/....//app.py",
        "/d/../../../etc/passwd",
    ],
)
def test_paths_of_the_page_do_not_lead_out(people, path):
    answer = people.nobody.get(path)
    assert b"create_app" not in answer.content and b"root:" not in answer.content
    assert answer.status_code in (401, 404, 405) or answer.text == people.nobody.get("/").text


# ---- Files.

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><script>alert(1)</script>"


def chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def bomb_png(side: int = 60_000) -> bytes:
    """A PNG of a few hundred bytes that says it has 3.6 billion pixels."""
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


NO_IMAGES = {
    "a.svg": SVG,
    "svg.png": SVG,
    "a.html": HTML,
    "html.jpg": HTML,
    "gif.gif": b"GIF89a/*" + HTML,
    "empty.png": b"",
    "cut.png": png(5)[:60],
    "bomb.png": bomb_png(),
    "pickle.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    + b" " * 57
    + b"\ncos\nsystem\n(S'touch owned'\ntR.",
    "elf.png": b"\x7fELF" + bytes(100),
    "pdf.jpg": b"%PDF-1.4\n%\xff\xff",
    "xml.png": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "playlist.mp4": b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile:///etc/passwd\n",
    "concat.mp4": b"ffconcat version 1.0\nfile /etc/passwd\n",
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_image_is_not_stored(people, name):
    before = people.owner.get("/api/datasets/1").json()
    result = people.upload(name, NO_IMAGES[name])
    assert result["added"] == [] and len(result["unreadable"]) == 1, result
    assert people.owner.get("/api/datasets/1").json()["untagged"] == before["untagged"]
    home = people.app.state.home
    assert not list(home.uploads.glob("*.part"))


def polyglot(kind: str) -> bytes:
    """A real image with a page, an archive or a script in it."""
    image = Image.open(io.BytesIO(png(len(kind) + 50)))
    buffer = io.BytesIO()
    if kind == "comment":
        image.convert("RGB").save(buffer, "JPEG", comment=HTML)
        return buffer.getvalue()
    data = png(len(kind) + 50)
    return data + (HTML if kind == "html" else zipped({"../evil.png": png(1)}))


@pytest.mark.parametrize("kind", ["comment", "html", "zip"])
def test_a_polyglot_is_shown_re_encoded_and_saved_as_a_file(people, kind):
    (image,) = people.upload(f"{kind}.html.png", polyglot(kind))["added"]
    for path in ("thumbnail", "picture"):
        answer = people.tagger.get(f"/api/images/{image}/{path}")
        assert answer.headers["content-type"] == "image/jpeg"
        assert b"script" not in answer.content and b"PK\x03\x04" not in answer.content
    answer = people.tagger.get(f"/api/images/{image}/original")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.content == polyglot(kind)


@pytest.mark.parametrize(
    "name", ["../../evil.png", "..\\evil.png", "/etc/evil.png", "C:\\evil.png", "\\\\host\\a.png"]
)
def test_names_of_files_that_lead_out(people, name):
    result = people.upload(name, png(90 + len(name)))
    if result["added"]:  # The parser of forms leaves the last part of a path of Windows.
        image = people.tagger.get(f"/api/images/{result['added'][0]}").json()
        assert (image["name"], image["folder"]) in (("evil.png", ""), ("a.png", ""))
        assert "/" not in name
    else:
        assert "leads out" in result["unreadable"][0]["why"]


def test_a_zip_in_a_zip_is_not_opened(people):
    inner = zipped({"../evil.png": png(1)})
    result = people.upload("a.zip", zipped({"inner.zip": inner, "good.png": png(61)}))
    assert len(result["added"]) == 1 and "inner.zip" in result["unreadable"][0]["name"]


# ---- Numbers and shapes of requests.


@pytest.mark.parametrize(
    "path",
    [
        "/api/images/99999999999999999999",
        "/api/images/-1",
        "/api/images/1e3",
        "/api/images/0x1",
        "/api/datasets/1/ids?class=99999999999999999999",
        "/api/datasets/1/ids?since=nan",
        "/api/datasets/1/ids?since=1e400",
        "/api/datasets/1/ids?nonsense=1",
        "/api/datasets/1/ids?sort=__import__('os')",
        "/api/images/1/picture?size=100000",
        "/api/images/1/picture?size=0",
        "/api/images/1/thumbnail?size=../../x",
        "/api/datasets/1/history?limit=-5",
        "/api/datasets/1/ids?text=%00",
        "/api/datasets/1/ids?text=%ff",
    ],
)
def test_numbers_and_keys_that_can_not_be(people, path):
    answer = people.tagger.get(path)
    assert answer.status_code < 500 and "Traceback" not in answer.text, answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"items": ' + b'{"a":' * 20_000,
        b"\xff\xfe",
        b'{"request_id": "a", "request_id": "b", "items": []}',
        b"null",
        b'{"request_id": NaN, "items": []}',
        b'{"request_id": "\\ud800", "items": [{"image": 1, "comment": "\\ud800"}]}',
        b'{"request_id": "x/../y", "items": [{"image": 1}]}',
        json.dumps({"request_id": "z", "items": [{"image": 1, "comment": "x" * 20_000}]}).encode(),
        json.dumps({"request_id": "z", "items": [{"image": 1}] * 1001}).encode(),
        json.dumps({"request_id": "z", "items": [{"image": 1, "__proto__": {}}]}).encode(),
    ],
    ids=range(11),
)
def test_bodies_that_can_not_be(people, body):
    headers = {"content-type": "application/json"}
    answer = people.tagger.post("/api/datasets/1/answers", content=body, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text


def test_a_form_of_another_site_is_no_json(people):
    """The kinds of body that a form can send are not read as JSON."""
    body = json.dumps({"request_id": str(uuid.uuid4()), "name": "csrf"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = people.owner.post("/api/datasets", content=body, headers={"content-type": kind})
        assert answer.status_code == 422, kind
    assert "csrf" not in people.owner.get("/api/datasets").text


# ---- Training.

CONFIGS = [
    {"recipe": "/etc/passwd"},
    {"recipe": "{secret}"},
    {"recipe": "../secret"},
    {"recipe": "own", "config": {"plugins": "os"}},
    {"recipe": "own", "config": {"config.plugins": "['evil']"}},
    {"recipe": "own", "config": {"compile_cache": "/tmp/evil"}},
    {"recipe": "own", "config": {"workdir": "/tmp/evil"}},
    {"recipe": "own", "config": {"dataset.name": "/etc"}},
    {"recipe": "own", "config": {"__class__": "x"}},
    {"recipe": "own", "config": {"model.__class__.__init__": "x"}},
    {"recipe": "own", "config": "plugins = ['evil']"},
    {"recipe": "own", "config": "--config.plugins=os"},
    {"recipe": "own; touch owned"},
    {"recipe": "own", "arguments": {"epochs": "1; import os"}},
    {"recipe": "own", "config": {"model.init_from": "/etc/passwd"}},
]


@pytest.mark.parametrize("run", CONFIGS, ids=lambda run: json.dumps(run))
def test_the_form_of_training_starts_no_code(people, run):
    """Not even for an owner, who would need --allow_configs for a file of his own."""
    people.tag(people.tagger)
    secret = people.app.state.home.root.parent / "secret.py"
    run = json.loads(json.dumps(run).replace("{secret}", str(secret)))
    before = people.owner.get("/api/datasets/1/runs").json()
    answer = people.write(people.owner, "POST", "/api/datasets/1/runs", **run)
    assert answer.status_code in (400, 403, 404, 422), answer.text
    assert people.owner.get("/api/datasets/1/runs").json() == before


@pytest.mark.parametrize("run", ["..%2f..%2fetc", "../1", "1%00", "999", "1/../../x"])
def test_the_report_of_a_run_is_the_one_of_its_number(people, run):
    for part in ("report", "log", "metrics"):
        answer = people.owner.get(f"/api/runs/{run}/{part}")
        assert answer.status_code in (401, 404, 405, 422), answer.text


def test_a_model_by_path_is_not_opened(people):
    for body in ({"checkpoint": "/etc/passwd"}, {"checkpoint": "../.."}, {"run": 999}):
        answer = people.write(people.owner, "POST", "/api/datasets/1/suggest", **body)
        assert 400 <= answer.status_code < 500, answer.text


def test_hostile_files_of_labels(people):
    for name, data in (
        ("a.csv", b"path,label\n/etc/passwd,cat\n../../x.png,cat\n"),
        ("a.json", b'{"version": "2.0", "item": {"name": "../../etc/passwd", "path": "/"}}'),
        ("a.json", b"[" * 100_000),
        ("a.zip", zipped({"../../evil.png": png(1)})),
        ("a.bin", b"\x80\x04cos\nsystem\n."),
    ):
        body = {"request_id": str(uuid.uuid4())}
        url = "/api/datasets/1/import"
        answer = people.owner.post(url, data=body, files={"file": (name, data)})
        assert answer.status_code < 500 and b"root:" not in answer.content, (name, answer.text)
        assert answer.status_code >= 400 or not answer.json().get("added")
