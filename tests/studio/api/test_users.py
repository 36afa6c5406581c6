"""Users by token: roles, revoking, sessions of browsers, and the command."""

import sqlite3

import pytest
from starlette.testclient import TestClient

from imgcls.core.errors import ConfigError
from imgcls.studio.__main__ import main
from imgcls.studio.app import create_app
from imgcls.studio.errors import Refused
from imgcls.studio.home import Home
from imgcls.studio.settings import Settings

URL = "http://127.0.0.1:8765"


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def app(home):
    app = create_app(home)
    with TestClient(app, base_url=URL):
        yield app


def client(app, token: str | None = None) -> TestClient:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return TestClient(app, base_url=URL, headers=headers)


def add(client, name, role="tagger") -> tuple[int, str]:
    answer = client.post("/api/users", json={"name": name, "role": role})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"], answer.json()["token"]


@pytest.fixture
def owner(app):
    return client(app, add(client(app), "Ada", "owner")[1])


def test_a_home_is_open_until_its_first_user_who_is_an_owner(app):
    local = client(app)
    assert local.get("/api/me").json() == dict(
        id=1, name="local", role="owner", active=True, local=True
    )
    assert local.post("/api/users", json={"name": "Bo", "role": "tagger"}).status_code == 409
    _, token = add(local, "Ada", "owner")
    assert local.get("/api/me").status_code == 401
    me = client(app, token).get("/api/me").json()
    assert (me["name"], me["role"], me["local"]) == ("Ada", "owner", False)


@pytest.mark.parametrize("role", ["tagger", "reviewer"])
def test_only_owners_change_users(app, owner, role):
    number, token = add(owner, "Bo", role)
    other = client(app, token)
    assert {user["name"] for user in other.get("/api/users").json()["users"]} == {"Ada", "Bo"}
    for method, path, body in (
        ("POST", "/api/users", {"name": "Eve", "role": "owner"}),
        ("PATCH", f"/api/users/{number}", {"role": "owner"}),
        ("PATCH", f"/api/users/{number - 1}", {"active": False}),
        ("PATCH", f"/api/users/{number - 1}", {"token": True}),
    ):
        answer = other.request(method, path, json=body)
        assert answer.status_code == 403 and "owner" in answer.json()["error"]
    assert other.get("/api/me").json()["role"] == role


def test_a_revoked_user_is_out_at_once_and_comes_back(app, owner):
    number, token = add(owner, "Bo")
    bo, browser = client(app, token), client(app)
    browser.post("/api/login", json={"token": token})
    assert bo.get("/api/me").status_code == browser.get("/api/me").status_code == 200
    owner.patch(f"/api/users/{number}", json={"active": False})
    assert bo.get("/api/me").status_code == browser.get("/api/me").status_code == 401
    assert browser.post("/api/login", json={"token": token}).status_code == 401
    owner.patch(f"/api/users/{number}", json={"active": True})
    assert bo.get("/api/me").status_code == 200
    assert browser.get("/api/me").status_code == 401  # The session ended.


def test_a_new_token_replaces_the_old_one(app, owner):
    number, old = add(owner, "Bo")
    new = owner.patch(f"/api/users/{number}", json={"token": True}).json()["token"]
    assert client(app, old).get("/api/me").status_code == 401
    assert client(app, new).get("/api/me").json()["id"] == number


def test_the_last_owner_stays(app, owner):
    number = owner.get("/api/me").json()["id"]
    for change in ({"active": False}, {"role": "tagger"}):
        assert owner.patch(f"/api/users/{number}", json=change).status_code == 409
    add(owner, "Bo", "owner")
    assert owner.patch(f"/api/users/{number}", json={"role": "tagger"}).status_code == 200


def test_a_browser_logs_in_and_out(app, owner):
    _, token = add(owner, "Bo")
    browser = client(app)
    answer = browser.post("/api/login", json={"token": token})
    cookie = answer.headers["set-cookie"]
    assert answer.json()["name"] == "Bo"
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "imgcls_studio_8765="):
        assert part in cookie
    assert token not in cookie  # Who steals the cookie does not have the token.
    assert browser.get("/api/me").json()["name"] == "Bo"
    stolen = {"cookie": cookie.partition(";")[0]}
    assert browser.post("/api/logout").status_code == 200
    assert client(app).get("/api/me", headers=stolen).status_code == 401
    assert browser.post("/api/login", json={"token": "wrong"}).status_code == 401


def test_secrets_are_stored_nowhere(app, owner, home, caplog):
    _, token = add(owner, "Bo")
    browser = client(app)
    browser.post("/api/login", json={"token": token})
    cookie = browser.cookies["imgcls_studio_8765"]
    assert client(app, token + "x").get("/api/me").status_code == 401
    stored = b"".join(path.read_bytes() for path in home.root.rglob("*") if path.is_file())
    assert b"SQLite" in stored
    for secret in (token, cookie):
        assert secret.encode() not in stored and secret not in caplog.text


def test_names_that_can_not_be(app, owner):
    for name in ("", "  ", "local", "a\nb", "x" * 201, "\u202eevil", 5, None):
        assert owner.post("/api/users", json={"name": name}).status_code in (400, 422)
    add(owner, "<script>alert(1)</script>")  # Text like any other.
    assert owner.post("/api/users", json={"name": "Ada"}).status_code == 409
    assert owner.patch("/api/users/99", json={"active": False}).status_code == 404
    assert owner.patch("/api/users/1", json={"active": True}).status_code == 404  # "local"


def test_the_command(tmp_path, capsys):
    home = f"--home={tmp_path / 'home'}"

    def user(*args: str) -> str:
        assert main(["user", *args, home]) == 0
        return capsys.readouterr().out

    token = user("add", "Ada", "--role=owner").strip()
    user("add", "Bo")
    user("role", "Bo", "--role=reviewer")
    app = create_app(Home(tmp_path / "home"), Settings(host="0.0.0.0"))
    with TestClient(app, base_url=URL):
        assert client(app, token).get("/api/me").json()["name"] == "Ada"
        renewed = user("token", "Bo").strip()
        assert client(app, renewed).get("/api/me").json()["role"] == "reviewer"
    user("revoke", "Bo")
    assert user("list") == "Ada\towner\nBo\treviewer\trevoked\n"
    user("readmit", "Bo")
    for wrong, error in (
        (["add"], "needs a name"),
        (["list", "Ada"], "takes no name"),
        (["role", "Bo"], "--role="),
        (["revoke", "Adda"], "did you mean 'Ada'"),
        (["revoke", "Ada"], "only owner"),
        (["add", "Bo"], "already"),
    ):
        with pytest.raises((ConfigError, Refused), match=error):
            main(["user", *wrong, home])
    with sqlite3.connect(tmp_path / "home" / "studio.sqlite") as connection:
        assert token not in str(connection.execute("SELECT * FROM user").fetchall())


def test_another_host_needs_users(home):
    with pytest.raises(ConfigError, match="user add NAME"):
        create_app(home, Settings(host="0.0.0.0"))


def test_only_the_owner_of_the_files_reads_the_home(home):
    assert home.root.stat().st_mode & 0o077 == 0
