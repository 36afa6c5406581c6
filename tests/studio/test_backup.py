"""Copies of a home: whole, checked, and harmless where they come from strangers."""

import io
import json
import shlex
import sqlite3
import tarfile
import threading

import pytest
import sqlalchemy as sa

from imgcls.core.errors import ConfigError
from imgcls.studio import backup
from imgcls.studio.__main__ import main
from imgcls.studio.home import Home
from imgcls.studio.store import dump, schema
from imgcls.studio.store.connect import Database
from imgcls.studio.store.users import People
from tests.conftest import REPO


def value_of(column: sa.Column, number: int):
    """Some value of a column's type, different for each number; 1 for what refers to others."""
    if column.foreign_keys:
        own = any(key.column.table is column.table for key in column.foreign_keys)
        return 3 - number if own else number  # Rows that refer to one another.
    kind = column.type
    if isinstance(kind, schema.Json):
        return {"é": [number, None, "\u2028\"'"]}
    if isinstance(kind, sa.LargeBinary):
        return bytes(range(256))
    if isinstance(kind, sa.Boolean):
        return bool(number % 2)
    if isinstance(kind, sa.Integer):
        return number
    if isinstance(kind, sa.Float):
        return number + 0.1
    return f"{number}\n猫"[: kind.length or 100]


def fill(home: Home) -> None:
    """Two rows in each table, and files in each folder."""
    database = Database(home.database_url)

    def add(connection):
        for table in schema.metadata.sorted_tables:
            rows = [{c.name: value_of(c, number) for c in table.c} for number in (1, 2)]
            own = [c.name for c in table.c if any(k.column.table is table for k in c.foreign_keys)]
            for row in rows:
                connection.execute(table.insert().values({**row, **dict.fromkeys(own)}))
            for row in rows if own else ():
                values = {name: row[name] for name in own}
                connection.execute(table.update().where(table.c.id == row["id"]).values(values))

    database.write(add)
    database.close()
    for name in (*backup.FOLDERS, "thumbnails", "exports", "uploads"):
        (home.root / name / "ab").mkdir()
        (home.root / name / "ab" / f"{name} é").write_bytes(name.encode() * 1000)


def rows_of(home: Home) -> dict[str, list]:
    database = Database(home.database_url)
    try:
        with database.read() as connection:
            return {
                table.name: [tuple(row) for row in connection.execute(sa.select(table))]
                for table in schema.metadata.sorted_tables
                if table.name not in dump.LEFT_OUT
            }
    finally:
        database.close()


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    fill(home)
    return home


@pytest.fixture
def copy(home, tmp_path):
    backup.write(home, tmp_path / "copy.tar")
    return tmp_path / "copy.tar"


def test_a_restored_home_is_the_same(tmp_path, database_url):
    home = Home(tmp_path / "home", database_url)
    fill(home)
    manifest = backup.write(home, tmp_path / "copy.tar")
    assert manifest.rows["image"] == 2 and "session" not in manifest.rows
    assert (tmp_path / "copy.tar").stat().st_mode & 0o077 == 0
    restored = backup.restore(tmp_path / "copy.tar", tmp_path / "new")
    assert rows_of(restored) == rows_of(home)
    assert len(rows_of(home)["change"]) == 2
    for name in backup.FOLDERS:
        path = restored.root / name / "ab" / f"{name} é"
        assert path.read_bytes() == name.encode() * 1000
    assert not list(restored.thumbnails.iterdir())


def test_a_home_changes_its_database(copy, tmp_path, home, new_postgres):
    """SQLite to PostgreSQL, whose next ids come after the restored ones."""
    url = new_postgres()
    restored = backup.restore(copy, tmp_path / "new", url)
    assert rows_of(restored) == rows_of(home)
    database = Database(restored.database_url)
    row = dict(name="next", role="owner", created=0.0)
    database.write(lambda c: c.execute(schema.user.insert().values(row)))
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.max(schema.user.c.id))).scalar_one() == 3
    database.close()
    with pytest.raises(ConfigError, match="--database is not empty"):
        backup.restore(copy, tmp_path / "other", url)
    assert not (tmp_path / "other").exists()


def test_a_copy_made_amid_writes_is_one_moment(tmp_path):
    """Each write adds a user and a data set: every copy has as many of one as of the other."""
    home = Home(tmp_path / "home")
    database = Database(home.database_url)
    stop = threading.Event()

    def add(connection, number):
        row = dict(name=str(number), created=0.0)
        connection.execute(schema.user.insert().values(role="owner", **row))
        values = dict(kind="multi", fractions={}, **row)
        connection.execute(schema.dataset.insert().values(values))

    def write():
        number = 0
        while not stop.is_set():
            database.write(add, number := number + 1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        counts = []
        for number in range(3):
            rows = backup.write(home, tmp_path / f"{number}.tar").rows
            counts.append((rows["user"], rows["dataset"]))
    finally:
        stop.set()
        thread.join()
        database.close()
    assert all(users == datasets for users, datasets in counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize("part", [b"runs" * 10, b'"colour": "', b'"revision": "', b"files/runs"])
def test_a_damaged_copy_is_found_and_nothing_is_restored(copy, tmp_path, part):
    """A picture, a table, the manifest and the name of a member."""
    data = copy.read_bytes()
    assert part in data
    copy.write_bytes(data.replace(part, part.swapcase(), 1))
    with pytest.raises(ConfigError):
        backup.restore(copy, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.tar", "home"]


def test_a_copy_that_ends_early(copy, tmp_path):
    for part in (0, 100, 5000, copy.stat().st_size // 2):
        (tmp_path / "part.tar").write_bytes(copy.read_bytes()[:part])
        with pytest.raises(ConfigError, match="no backup of a studio|damaged"):
            backup.verify(tmp_path / "part.tar")


def hostile(copy, target, name: str, kind=tarfile.REGTYPE, listed=True):
    """A copy with one more member."""
    with tarfile.open(copy) as old, tarfile.open(target, "w") as new:
        for info in old:
            file = old.extractfile(info)
            if info.name == "manifest.json":
                data = json.load(file)
                if listed:
                    data["members"][name] = [1, backup.hashlib.sha256(b"x").hexdigest()]
                file = io.BytesIO(json.dumps(data).encode())
                info.size = len(file.getvalue())
            new.addfile(info, file)
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname = kind, kind == tarfile.REGTYPE, "/etc/passwd"
        new.addfile(info, io.BytesIO(b"x"))
    return target


@pytest.mark.parametrize(
    "name",
    [
        "files/pictures/../../evil",
        "../evil",
        "/tmp/evil",
        "files/evil",
        "files//etc/evil",
        "files/pictures/..\\evil",
        "studio.sqlite",
        "tables/../evil.jsonl",
        "files/exports/evil",
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_hostile_copy_writes_nothing_elsewhere(copy, tmp_path, name, listed):
    evil = hostile(copy, tmp_path / "evil.tar", name, listed=listed)
    with pytest.raises(ConfigError, match="does not belong"):
        backup.restore(evil, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_copy(copy, tmp_path, kind):
    evil = hostile(copy, tmp_path / "evil.tar", "files/pictures/ab/x", kind)
    with pytest.raises(ConfigError, match="does not belong|damaged"):
        backup.restore(evil, tmp_path / "new")


def test_files_and_homes_that_exist_stay(copy, home, tmp_path):
    before = copy.read_bytes()
    with pytest.raises(ConfigError, match="exists"):
        backup.write(home, copy)
    assert copy.read_bytes() == before
    with pytest.raises(ConfigError, match="not empty"):
        backup.restore(copy, home.root)
    assert rows_of(home)["user"]


def test_a_full_disk_leaves_no_part(home, tmp_path, small_disk):
    with small_disk(20_000) as disk:
        with pytest.raises(ConfigError, match="No space left"):
            backup.write(home, disk / "copy.tar")
        assert not list(disk.iterdir())
    backup.write(home, tmp_path / "copy.tar")
    with small_disk(300_000) as disk:
        with pytest.raises(ConfigError):
            backup.restore(tmp_path / "copy.tar", disk / "new")
        assert not list(disk.iterdir())


def test_the_commands(tmp_path, capsys):
    home = Home(tmp_path / "home")
    database = Database(home.database_url)
    People(database)
    database.close()
    assert main(["backup", str(tmp_path / "copy.tar"), f"--home={tmp_path / 'home'}"]) == 0
    assert "0 images" in capsys.readouterr().out
    assert main(["restore", str(tmp_path / "copy.tar"), f"--home={tmp_path / 'new'}"]) == 0
    assert "0 images restored, no problems" in capsys.readouterr().out
    with sqlite3.connect(tmp_path / "new" / "studio.sqlite") as connection:
        assert connection.execute("SELECT name FROM user").fetchall() == [("local",)]
    with pytest.raises(ConfigError, match="there is no studio"):
        main(["backup", str(tmp_path / "x.tar"), f"--home={tmp_path / 'typo'}"])
    with pytest.raises(ConfigError, match="there is no backup"):
        main(["restore", str(tmp_path / "no.tar"), f"--home={tmp_path / 'n'}"])


@pytest.mark.parametrize("heading", ["Several people", "Backup"])
def test_the_commands_of_the_guide(heading, tmp_path, monkeypatch, capsys):
    """As they stand in docs/studio.md, on a new home."""
    monkeypatch.chdir(tmp_path)
    Database(Home("studio").database_url).close()
    text = (REPO / "docs" / "studio.md").read_text()
    block = text.split(f"## {heading}\n")[1].split("```bash\n")[1].split("```")[0]
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(lines) >= 3
    for program, studio, *words in lines:
        assert (program, studio) == ("imgcls", "studio")
        assert main(words) == 0, (words, capsys.readouterr())
