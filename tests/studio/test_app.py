"""The application: the page's files, the API's description, and errors as JSON."""

import pytest
from starlette.testclient import TestClient

from imgcls.studio.app import create_app
from imgcls.studio.home import Home


@pytest.fixture
def client(tmp_path):
    with TestClient(create_app(Home(tmp_path / "home")), base_url="http://127.0.0.1") as client:
        yield client


def test_the_page_and_the_description_of_the_api(client):
    for path in ("/", "/docs", "/d/1/images/2", "/page/index.html"):
        page = client.get(path)
        assert page.status_code == 200 and "imgcls" in page.text
        assert page.headers["cache-control"] == "no-cache" and page.headers["etag"]
    assert client.get("/openapi.json").json()["info"]["title"] == "imgcls studio"


def test_unknown_paths_are_errors_in_json(client):
    assert client.get("/api/nothing").status_code == 404
    assert client.get("/api/nothing").json().keys() == {"error"}


def test_the_page_reads_its_address_itself(client):
    page = client.get("/").text
    assert client.get("/docs").text == client.get("/d/3/images/7?class=2").text == page
    for name in ("app.js", "style.css", "icon.svg"):
        assert f"/page/{name}" in page
        file = client.get(f"/page/{name}")
        assert file.status_code == 200 and file.headers["cache-control"] == "no-cache"
        again = client.get(f"/page/{name}", headers={"if-none-match": file.headers["etag"]})
        assert again.status_code == 304
    assert client.get("/page/../app.py").status_code == 404
    assert client.get("/page/none.js").status_code == 404
