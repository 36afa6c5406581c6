"""The database of a home: connections that read, and one thread that writes."""

import contextlib
import pathlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import alembic.command
import alembic.config
import sqlalchemy as sa
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from imgcls.core.errors import ConfigError, one_line
from imgcls.studio.errors import DiskFull

T = TypeVar("T")

_MIGRATIONS = pathlib.Path(__file__).parent / "migrations"
# Writes that are committed together, at most.
_GROUP = 256


class Database:
    """The database of a home, brought to the newest version of the tables.

    Args:
      url: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`.

    Attributes:
      engine: of SQLAlchemy; for reading alone.
      writer: runs everything that changes the database, see `Writer`.

    Raises:
      ConfigError: the database can't be opened.
    """

    def __init__(self, url: str):
        self.engine = open_engine(url)
        try:
            migrate(self.engine)
        except SQLAlchemyError as e:
            shown = sa.make_url(url).render_as_string(hide_password=True)
            raise ConfigError(f"--database={shown}: {_reason(e)}") from e
        except CommandError as e:
            shown = sa.make_url(url).render_as_string(hide_password=True)
            raise ConfigError(
                f"--database={shown}: written by a newer imgcls; install that one, or restore an "
                "older backup"
            ) from e
        self.writer = Writer(self.engine)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the database."""
        with self.engine.connect() as connection:
            yield connection

    def write(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Runs `function(connection, ...)` on the writer's thread; returns once it is on disk."""
        return self.writer.run(function, *args, **kwargs)

    def close(self) -> None:
        """Finishes the writes in progress and closes all connections."""
        self.writer.close()
        self.engine.dispose()


def open_engine(url: str) -> Engine:
    """Returns an engine with the settings that acknowledged writes survive a loss of power."""
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    if not url.startswith(("sqlite:", "postgresql+psycopg:")):
        raise ConfigError(f"--database={url.partition(':')[0]}:...: write postgresql://...")
    if url.startswith("postgresql"):
        return sa.create_engine(
            url, pool_size=20, max_overflow=30, isolation_level="REPEATABLE READ"
        )
    engine = sa.create_engine(
        url, pool_size=20, max_overflow=30, connect_args={"check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _: Any) -> None:
        # Transactions begin below, and not where Python's module believes that they should.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "busy_timeout=10000",
            "cache_size=-32000",
            "temp_store=MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def migrate(engine: Engine, revision: str = "head") -> None:
    """Brings the tables to a version; those of a new database are made."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, revision)


class Writer:
    """The one thread that writes: all waiting writes are committed at once.

    Each write runs in a savepoint of its own, so that one that fails undoes itself alone. A write
    is acknowledged after the commit that has it.

    Attributes:
      listeners: called without arguments after each commit, on the writer's thread.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[Connection], Any]] | None]
        self._queue = queue.SimpleQueue()
        self._closed = False
        self.listeners: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._loop, name="studio-writer", daemon=True)
        self._thread.start()

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Runs `function(connection, ...)`, waits for its commit and returns its result.

        Raises:
          DiskFull: there is no space for it; nothing of it was written.
          Exception: what the function raises; nothing of it was written.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a write inside a write: pass the connection on")
        if self._closed:
            raise RuntimeError("the database is closed")
        future: Future[T] = Future()
        self._queue.put((future, lambda connection: function(connection, *args, **kwargs)))
        return future.result()

    def close(self) -> None:
        """Finishes what waits, and ends the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _loop(self) -> None:
        going = True
        while going:
            group = [self._queue.get()]
            while len(group) < _GROUP and not self._queue.empty():
                group.append(self._queue.get())
            going = None not in group
            writes = [write for write in group if write is not None]
            if writes:
                self._commit(writes)

    def _commit(self, writes: list[tuple[Future[Any], Callable[[Connection], Any]]]) -> None:
        results: list[tuple[Future[Any], Any]] = []
        failures: list[tuple[Future[Any], BaseException]] = []
        try:
            with self._engine.connect().execution_options(writes=True) as connection:
                with connection.begin():
                    for future, function in writes:
                        try:
                            with connection.begin_nested():
                                result = function(connection)
                            results.append((future, result))
                        except Exception as e:
                            failures.append((future, _explained(e)))
        except Exception as e:  # The commit itself: nothing of the group is on disk.
            failures = [(future, _explained(e)) for future, _ in writes]
            results = []
        for listener in self.listeners if results else ():
            listener()
        for future, error in failures:
            future.set_exception(error)
        for future, result in results:
            future.set_result(result)


def _explained(error: Exception) -> Exception:
    text = str(error)
    if isinstance(error, OperationalError) and ("is full" in text or "No space left" in text):
        return DiskFull(
            "the disk of the home is full: nothing of this was stored, all that was stored before "
            "is kept; make space and send it again"
        )
    return error


def _reason(error: SQLAlchemyError) -> str:
    return one_line(getattr(error, "orig", None) or error)


def chunks(ids: list[int], size: int = 5000) -> Iterator[list[int]]:
    """Parts of a list of ids that fit into one statement."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def among(column: sa.ColumnElement[int], ids: list[int]) -> sa.ColumnElement[bool]:
    """`column IN (ids)`, with the integers in the text of the statement: fast for thousands.

    One id is a parameter, so that the statement is prepared once for all images.
    """
    if len(ids) == 1:
        return column == ids[0]
    return column.in_(
        sa.bindparam(None, ids, type_=sa.Integer, expanding=True, literal_execute=True)
    )
