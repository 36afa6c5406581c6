"""Fixtures of the studio's tests."""

import pytest

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
