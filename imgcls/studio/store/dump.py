"""All rows of a database as lines of JSON, the same for SQLite and PostgreSQL, and back."""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, MetaData, Table

# Not part of a copy: who is logged in, uploads that are not finished, Alembic's own table.
LEFT_OUT = ("session", "upload", "alembic_version")
_ROWS = 1000


def read_tables(connection: Connection) -> list[Table]:
    """The tables of a database as they are there, each after those that it refers to."""
    metadata = MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name not in LEFT_OUT]


def revision_of(connection: Connection) -> str:
    """The version of the tables, as Alembic has recorded it."""
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()


def read_rows(connection: Connection, table: Table) -> Iterator[str]:
    """Yields each row as a JSON object, in the order of the primary key."""
    query = sa.select(table).order_by(*table.primary_key.columns)
    result = connection.execution_options(yield_per=_ROWS).execute(query)
    for row in result.mappings():
        yield json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False)


def write_rows(connection: Connection, table: Table, lines: Iterable[str]) -> int:
    """Adds rows to an empty table; returns how many.

    A row may refer to a later one of the same table, so such columns are filled in at the end.
    """
    own = [c for c in table.c if any(key.column.table is table for key in c.foreign_keys)]
    keys = list(table.primary_key.columns)
    later, count = [], 0
    for rows in _groups(json.loads(line) for line in lines):
        rows = [{name: _value(value) for name, value in row.items()} for row in rows]
        for row in rows:
            if any(row[c.name] is not None for c in own):
                later.append(
                    ({c.name: row[c.name] for c in keys}, {c.name: row[c.name] for c in own})
                )
                row.update({c.name: None for c in own})
        connection.execute(sa.insert(table), rows)
        count += len(rows)
    for key, values in later:
        where = [c == key[c.name] for c in keys]
        connection.execute(sa.update(table).where(*where).values(values))
    _advance_sequence(connection, table)
    return count


def _advance_sequence(connection: Connection, table: Table) -> None:
    """PostgreSQL counts ids apart from the rows; SQLite looks at them."""
    keys = list(table.primary_key.columns)
    if connection.dialect.name != "postgresql" or len(keys) != 1:
        return
    name = f'"{table.name}"'
    found = sa.select(sa.func.pg_get_serial_sequence(name, keys[0].name))
    if sequence := connection.execute(found).scalar_one():
        most = connection.execute(sa.select(sa.func.max(keys[0]))).scalar_one()
        connection.execute(sa.select(sa.func.setval(sequence, most or 1, most is not None)))


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row)
        if len(group) == _ROWS:
            yield group
            group = []
    if group:
        yield group


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    return value


def _value(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value
