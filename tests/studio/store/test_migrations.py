"""Each released version of the tables becomes today's, with all that is in it."""

import pathlib

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from imgcls.core.errors import ConfigError
from imgcls.studio.store import connect, schema
from imgcls.studio.store.connect import Database, migrate, open_engine

_SCRIPTS = ScriptDirectory(str(pathlib.Path(connect.__file__).parent / "migrations"))
REVISIONS = [script.revision for script in _SCRIPTS.walk_revisions()][::-1]


def some(column: sa.Column):
    """A value that a column of a released version takes."""
    if column.foreign_keys:
        own = any(key.column.table is column.table for key in column.foreign_keys)
        return None if own else 1
    if isinstance(column.type, sa.Boolean):
        return True
    if isinstance(column.type, sa.Integer):
        return 1
    if isinstance(column.type, sa.Float):
        return 1.5
    if isinstance(column.type, sa.LargeBinary):
        return b"\0\xff"
    return "[]"[: getattr(column.type, "length", None) or 10]  # JSON, and any text.


def tables_of(engine: sa.Engine) -> list[sa.Table]:
    metadata = sa.MetaData()
    metadata.reflect(engine)
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


@pytest.fixture
def url(database_url, tmp_path):
    return database_url or f"sqlite:///{tmp_path}/studio.sqlite"


def test_revisions_are_numbered_in_one_line():
    assert REVISIONS == [f"{n:04}" for n in range(1, len(REVISIONS) + 1)]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_released_version_becomes_todays(url, revision):
    engine = open_engine(url)
    migrate(engine, revision)
    old = tables_of(engine)
    assert len(old) > 10
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        for table in old:
            connection.execute(table.insert().values({c.name: some(c) for c in table.c}))
    engine.dispose()
    database = Database(url)
    try:
        with database.read() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, schema.metadata) == []
            assert context.get_current_revision() == REVISIONS[-1]
            for table in old:
                count = sa.select(sa.func.count()).select_from(sa.table(table.name))
                assert connection.execute(count).scalar_one() == 1, table.name
            row = connection.execute(sa.select(schema.image)).one()
            assert (row.id, row.name, row.bytes) == (1, "[]", 1)
            assert connection.execute(sa.select(schema.signature.c.thumb)).scalar_one() == b"\0\xff"
    finally:
        database.close()


def test_tables_of_a_newer_version_are_left_alone(url):
    Database(url).close()
    engine = open_engine(url)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigError, match="newer"):
        Database(url)
