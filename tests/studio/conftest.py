"""Fixtures of the studio's tests."""

import pytest
from starlette.testclient import TestClient

from imgcls.studio.app import create_app
from imgcls.studio.home import Home
from imgcls.studio.store.connect import Database
from tests.studio import postgres


@pytest.fixture(scope="session")
def new_postgres():
    """`new_postgres()` makes an empty database of PostgreSQL and returns its URL."""
    with postgres.running() as make:
        yield make


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request) -> str:
    """The flag --database of both databases: empty for the home's own SQLite."""
    return "" if request.param == "sqlite" else request.getfixturevalue("new_postgres")()


@pytest.fixture
def database(tmp_path):
    """An empty database."""
    database = Database(f"sqlite:///{tmp_path}/studio.sqlite")
    yield database
    database.close()


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def studio(home):
    """A client of a server of a home without users: the owner."""
    with TestClient(create_app(home), base_url="http://127.0.0.1:8765") as client:
        yield client
