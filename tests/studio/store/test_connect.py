"""The writer thread: what is acknowledged is on disk, what fails leaves nothing."""

import concurrent.futures
import sqlite3

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from imgcls.core.errors import ConfigError
from imgcls.studio.store import schema
from imgcls.studio.store.connect import Database, among


@pytest.fixture
def path(tmp_path):
    return tmp_path / "studio.sqlite"


@pytest.fixture
def database(path):
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


def add_user(connection, name):
    values = {"name": name, "role": "owner", "created": 1.0}
    return connection.execute(schema.user.insert().values(values)).inserted_primary_key[0]


def names(path):
    with sqlite3.connect(path) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM user")}


def test_migrations_make_the_tables_of_the_schema(database):
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_acknowledged_writes_are_in_the_file_and_failed_ones_are_not(database, path):
    def write(number):
        def body(connection):
            add_user(connection, f"user {number}")
            if number % 3 == 0:
                raise ValueError(f"no {number}")

        try:
            database.write(body)
        except ValueError as e:
            assert str(e) == f"no {number}" and f"user {number}" not in names(path)
        else:
            assert f"user {number}" in names(path)

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(write, range(60)))
    assert names(path) == {f"user {n}" for n in range(60) if n % 3}


def test_waiting_writes_share_a_commit(database):
    commits = []
    database.writer.listeners.append(lambda: commits.append(1))
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        # The first holds the thread until the others wait.
        slow = pool.submit(database.write, lambda c: __import__("time").sleep(0.3))
        list(pool.map(lambda n: database.write(add_user, f"user {n}"), range(39)))
        slow.result()
    assert len(commits) < 20


def test_settings_that_survive_a_loss_of_power(database):
    with database.read() as connection:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_thousands_of_ids_in_one_statement(database):
    database.write(add_user, "a")
    with database.read() as connection:
        query = sa.select(schema.user.c.id).where(among(schema.user.c.id, list(range(50_000))))
        assert connection.execute(query).scalars().all() == [1]


def test_a_wrong_url_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="write postgresql://"):
        Database("mysql://root@localhost/x")
    with pytest.raises(ConfigError, match="unable to open"):
        Database(f"sqlite:///{tmp_path}/missing/studio.sqlite")
