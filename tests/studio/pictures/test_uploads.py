"""Uploads in parts: they continue, are checked, and belong to who began them."""

import hashlib
import io
import os
import threading
import time
import uuid
import zipfile

import pytest
from PIL import Image
from starlette.testclient import TestClient

from imgcls.studio.app import create_app
from imgcls.studio.home import Home
from imgcls.studio.settings import Settings

URL = "http://127.0.0.1:8765"


def png(seed: int, size: int = 24) -> bytes:
    """A picture of its own for each seed."""
    generator = __import__("numpy").random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 255, (6, 6, 3), dtype="uint8"))
    buffer = io.BytesIO()
    small.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def request_id() -> dict[str, str]:
    return {"request_id": str(uuid.uuid4())}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def client(home, tmp_path):
    (tmp_path / "root").mkdir()
    with TestClient(create_app(home, Settings(roots=(str(tmp_path / "root"),))), URL) as client:
        client.post("/api/datasets", json={"name": "d", **request_id()})
        yield client


def begin(client, data: bytes, name="a.png", **more):
    body = {"dataset": 1, "name": name, "size": len(data), **request_id(), **more}
    return client.post("/api/uploads", json=body)


def send(client, data: bytes, name="a.png"):
    key = begin(client, data, name).json()["id"]
    client.put(f"/api/uploads/{key}?offset=0", content=data)
    return client.post(f"/api/uploads/{key}/finish", json=request_id())


def test_an_upload_continues_where_it_stopped(client, home):
    data = png(1)
    sha256 = hashlib.sha256(data).hexdigest()
    key = begin(client, data, "cats/a.png", sha256=sha256.upper()).json()["id"]
    url = f"/api/uploads/{key}"
    assert client.put(f"{url}?offset=0", content=data[:100]).json() == {"received": 100}
    assert client.get(url).json() == {"id": key, "received": 100, "size": len(data)}
    for offset in (0, 99, 101):  # Neither twice nor with a gap.
        answer = client.put(f"{url}?offset={offset}", content=data[100:])
        assert answer.status_code == 409 and answer.json()["received"] == 100
    early = client.post(f"{url}/finish", json=request_id())
    assert early.status_code == 409 and early.json()["received"] == 100
    assert client.put(f"{url}?offset=100", content=data[100:]).json()["received"] == len(data)
    once = request_id()
    result = client.post(f"{url}/finish", json=once).json()
    assert len(result["added"]) == 1 and not result["unreadable"]
    assert client.post(f"{url}/finish", json=once).json() == result  # The answer was lost.
    image = client.get(f"/api/images/{result['added'][0]}").json()
    assert (image["name"], image["folder"], image["sha256"]) == ("a.png", "cats", sha256)
    assert not list(home.uploads.iterdir())
    assert client.get(url).status_code == 404


def test_the_same_request_begins_one_upload(client):
    once = request_id()
    body = {"dataset": 1, "name": "a.png", "size": 9, **once}
    first, second = (client.post("/api/uploads", json=body).json() for _ in range(2))
    assert first == second


def test_the_id_of_another_request_is_refused(client):
    once = request_id()
    client.post("/api/datasets", json={"name": "e", **once})
    files = {"files": ("a.png", png(1))}
    for answer in (
        client.post("/api/datasets/1/upload", data=once, files=files),
        client.post(f"/api/uploads/{'0' * 32}/finish", json=once),
    ):
        assert answer.status_code == 409 and "another request" in answer.json()["error"]


def test_other_bytes_than_announced_are_not_taken(client, home):
    data = png(1)
    wrong = hashlib.sha256(b"other").hexdigest()
    key = begin(client, data, sha256=wrong).json()["id"]
    client.put(f"/api/uploads/{key}?offset=0", content=data)
    answer = client.post(f"/api/uploads/{key}/finish", json=request_id())
    assert answer.status_code == 409 and answer.json()["received"] == 0
    assert client.get("/api/datasets/1/ids").json()["count"] == 0
    key = begin(client, data).json()["id"]
    answer = client.put(f"/api/uploads/{key}?offset=0", content=data + b"more")
    assert answer.status_code == 413 and len(os.listdir(home.uploads)) == 2


def test_names_and_sizes_that_can_not_be(client, home):
    for name in ("../a.png", "/etc/passwd", "C:\\a.png", "a/../../b", "a\0b", "x" * 1001):
        assert begin(client, b"x", name).status_code in (400, 422)
    assert begin(client, b"", size=2**50).status_code == 413
    assert begin(client, b"", size=60 << 30).status_code in (200, 507)
    assert begin(client, b"", size=-1).status_code == 422
    assert begin(client, b"", dataset=99).status_code == 404
    for key in ("..%2f..%2fetc%2fpasswd", "x", "A" * 32, "0" * 33):
        assert client.get(f"/api/uploads/{key}").status_code in (404, 422)
    assert len(os.listdir(home.uploads)) <= 1


def test_the_files_of_a_zip(client, home):
    """Hidden behind any name; what is no image is listed."""
    data = zipped(
        {"cats/1.png": png(1), "cats/2.png": png(2), "copy.png": png(1), "notes.txt": b"hello"}
    )
    result = send(client, data, "batch/all.bin").json()
    assert len(result["added"]) == 2
    assert [d["name"] for d in result["duplicates"]] == ["batch/copy.png"] or (
        [d["name"] for d in result["duplicates"]] == ["copy.png"]
    )
    assert ["notes.txt" in u["name"] for u in result["unreadable"]] == [True]
    found = client.get(f"/api/images/{result['added'][0]}").json()
    assert found["folder"] == "batch/cats"
    assert not list(home.uploads.iterdir())
    files = {"files": ("b.zip", zipped({"x/3.png": png(3)}))}
    result = client.post("/api/datasets/1/upload", files=files).json()
    assert client.get(f"/api/images/{result['added'][0]}").json()["folder"] == "x"


def test_hostile_zips_store_nothing(client, home):
    for data in (
        zipped({"good.png": png(1), "../evil.png": png(2)}),
        zipped({"good.png": png(1), "C:/evil.png": png(2)}),
        b"PK\x03\x04 broken",
    ):
        answer = send(client, data, "a.zip")
        assert answer.status_code == 400 and "a.zip" in answer.json()["error"]
        answer = client.post("/api/datasets/1/upload", files={"files": ("a.zip", data)})
        assert answer.json().get("added", []) == []
    assert client.get("/api/datasets/1/ids").json()["count"] == 0
    assert not any(home.pictures.rglob("*.*"))


def test_files_on_the_server_stay_where_they_are(client, home, tmp_path):
    root = tmp_path / "root"
    (root / "in").mkdir()
    (root / "in" / "1.png").write_bytes(png(1))
    (root / "in" / "notes.txt").write_bytes(b"hello")
    (root / "in" / "link.png").symlink_to("/etc/passwd")
    url = "/api/datasets/1/register"
    result = client.post(url, json={"paths": [str(root)], **request_id()}).json()
    (image,) = result["added"]
    assert sorted(u["name"].rpartition("/")[2] for u in result["unreadable"]) == [
        "link.png",
        "notes.txt",
    ]
    assert client.get(f"/api/images/{image}").json()["folder"] == "in"
    assert (root / "in" / "1.png").read_bytes() == png(1)
    assert not any(home.pictures.rglob("*.png"))
    assert client.get(f"/api/images/{image}/original").content == png(1)
    (root / "in" / "1.png").unlink()
    (root / "in" / "1.png").symlink_to("/etc/passwd")  # Exchanged afterwards.
    answer = client.get(f"/api/images/{image}/original")
    assert answer.status_code == 403 and b"root:" not in answer.content
    for path in ("/etc/passwd", f"{root}/../secret", "in/1.png", "//server/x", "C:\\x"):
        answer = client.post(url, json={"paths": [path], **request_id()})
        assert answer.status_code in (400, 403), path


def test_unfinished_uploads_survive_a_restart_for_a_week(home, tmp_path):
    data = png(1)
    with TestClient(create_app(home), URL) as client:
        client.post("/api/datasets", json={"name": "d", **request_id()})
        key = begin(client, data).json()["id"]
        client.put(f"/api/uploads/{key}?offset=0", content=data[:50])
        old = begin(client, data).json()["id"]
    (home.uploads / "left.part").write_bytes(b"of a crash")
    import sqlite3

    with sqlite3.connect(home.root / "studio.sqlite") as connection:
        connection.execute("UPDATE upload SET created = created - 8*86400 WHERE id = ?", [old])
    connection.close()
    with TestClient(create_app(home), URL) as client:
        assert client.get(f"/api/uploads/{key}").json()["received"] == 50
        assert os.listdir(home.uploads) == [key]
        client.delete(f"/api/uploads/{key}")
        assert not os.listdir(home.uploads)


def test_two_writers_of_one_upload(client):
    """The second is refused, and the bytes are those of the first."""
    data = os.urandom(3 << 20)
    key = begin(client, data).json()["id"]
    going = threading.Event()

    def slowly():
        yield data[: 1 << 20]
        going.set()
        time.sleep(0.5)
        yield data[1 << 20 :]

    first = []
    url = f"/api/uploads/{key}?offset=0"
    thread = threading.Thread(target=lambda: first.append(client.put(url, content=slowly())))
    thread.start()
    going.wait()
    codes = [client.put(url, content=b"x" * 100).status_code for _ in range(2)]
    thread.join()
    # A test client collects a body before it sends it, so the others may come first.
    assert sorted([*codes, first[0].status_code]) in ([200, 409, 409], [409, 409, 409])


def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path, small_disk):
    with small_disk(70 << 20) as disk:
        home = Home(disk / "home")
        with TestClient(create_app(home), URL) as client:
            client.post("/api/datasets", json={"name": "d", **request_id()})
            (kept,) = send(client, png(1)).json()["added"]
            answer = begin(client, b"", size=50 << 20)
            assert answer.status_code == 507 and "make space" in answer.json()["error"]
            with open(disk / "fill", "wb", buffering=0) as file:
                try:
                    while file.write(bytes(1 << 16)) == 1 << 16:
                        pass
                except OSError:
                    pass
            files = {"files": ("b.png", png(2, 400))}
            answer = client.post("/api/datasets/1/upload", files=files)
            assert answer.status_code == 507, answer.text
            assert "make space" in answer.json()["error"]
            body = {"name": "e", **request_id()}
            assert client.get(f"/api/images/{kept}/original").content == png(1)
            (disk / "fill").unlink()
            assert client.post("/api/datasets/1/upload", files=files).json()["added"]
            assert client.post("/api/datasets", json=body).status_code == 200
