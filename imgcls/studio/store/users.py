"""Named users, their tokens and sessions. Only hashes of tokens are stored.

A token has 256 random bits, so one round of SHA-256 is as good as a slow hash: there is nothing to
guess that a dictionary would hold.
"""

import dataclasses
import hashlib
import secrets
import time

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.errors import Conflict, NotFound, Refused
from imgcls.studio.store.connect import Database
from imgcls.studio.store.schema import session, user

ROLES = ("tagger", "reviewer", "owner")
LOCAL = "local"
TOKEN_PREFIX = "imgcls_"
SESSION_SECONDS = 30 * 86400.0


@dataclasses.dataclass(frozen=True)
class User:
    """Somebody who tags. Each of `ROLES` may do what those before it may."""

    id: int
    name: str
    role: str
    active: bool = True

    def may(self, role: str) -> bool:
        """Whether this user may do what `role` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


class People:
    """Who may come in, as the guard asks. Makes "local" at the first start of a home."""

    def __init__(self, database: Database):
        self._database = database
        database.write(_make_local)

    def local(self) -> User | None:
        """The owner of a home without users; None once it has users."""
        return self._ask(local_user)

    def of_token(self, token: str) -> User | None:
        """The active user with this token."""
        return self._ask(of_token, token)

    def of_session(self, cookie: str) -> User | None:
        """The active user who logged in with this cookie."""
        return self._ask(of_session, cookie)

    def _ask(self, question, *args) -> User | None:
        with self._database.read() as connection:
            return question(connection, *args)


def hash_of(secret: str) -> str:
    """SHA-256 of a token or session, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def has_users(connection: Connection) -> bool:
    """Whether the home has ever had a named user: from then on, nobody comes in without a token."""
    query = sa.select(user.c.id).where(user.c.name != LOCAL).limit(1)
    return connection.execute(query).first() is not None


def local_user(connection: Connection) -> User | None:
    """The owner of a home without users; None once it has users."""
    if has_users(connection):
        return None
    return _one(connection, user.c.name == LOCAL)


def of_token(connection: Connection, token: str) -> User | None:
    """The active user with this token."""
    return _one(connection, user.c.token_hash == hash_of(token))


def of_session(connection: Connection, cookie: str) -> User | None:
    """The active user who logged in with this cookie, if it has not expired."""
    found = sa.select(session.c.user_id).where(
        session.c.hash == hash_of(cookie), session.c.expires > time.time()
    )
    return _one(connection, user.c.id.in_(found))


def list_users(connection: Connection) -> list[User]:
    """All users by name, revoked ones too, without "local"."""
    query = sa.select(user).where(user.c.name != LOCAL).order_by(user.c.name)
    return [_user(row) for row in connection.execute(query)]


def add_user(connection: Connection, name: str, role: str) -> tuple[User, str]:
    """Adds a user; returns it and its token, which is stored nowhere.

    Raises:
      Refused: the name or the role can't be.
      Conflict: the name is taken.
    """
    name = _check_name(name)
    _check_role(role)
    if connection.execute(sa.select(user.c.id).where(user.c.name == name)).first():
        raise Conflict(f"there is a user {name!r} already; choose another name")
    token = _new_token()
    row = dict(name=name, role=role, token_hash=hash_of(token), created=time.time(), active=True)
    number = connection.execute(sa.insert(user).values(row).returning(user.c.id)).scalar_one()
    return User(number, name, role), token


def change_user(
    connection: Connection, number: int, role: str | None = None, active: bool | None = None
) -> User:
    """Changes the role of a user, or revokes (`active=False`) or readmits it.

    Raises:
      NotFound: no such user.
      Conflict: no active owner would be left.
    """
    found = get_user(connection, number)
    values = {}
    if role is not None:
        _check_role(role)
        values["role"] = role
    if active is not None:
        values["active"] = active
    if values:
        connection.execute(sa.update(user).where(user.c.id == number).values(values))
    if active is False:
        connection.execute(sa.delete(session).where(session.c.user_id == number))
    if found.active and found.role == "owner" and not _has_owner(connection):
        raise Conflict(f"{found.name!r} is the only owner; make somebody else an owner first")
    return get_user(connection, number)


def renew_token(connection: Connection, number: int) -> str:
    """Gives a user a new token and ends the sessions; the old token is refused from now on."""
    get_user(connection, number)
    token = _new_token()
    values = {"token_hash": hash_of(token)}
    connection.execute(sa.update(user).where(user.c.id == number).values(values))
    connection.execute(sa.delete(session).where(session.c.user_id == number))
    return token


def get_user(connection: Connection, number: int) -> User:
    """The named user with this id; raises NotFound."""
    row = connection.execute(
        sa.select(user).where(user.c.id == number, user.c.name != LOCAL)
    ).first()
    if row is None:
        raise NotFound(f"there is no user {number}; GET /api/users lists them")
    return _user(row)


def start_session(connection: Connection, who: User) -> str:
    """Returns the cookie of a new session, and forgets those that have expired."""
    cookie, now = secrets.token_urlsafe(32), time.time()
    connection.execute(sa.delete(session).where(session.c.expires <= now))
    values = dict(hash=hash_of(cookie), user_id=who.id, created=now, expires=now + SESSION_SECONDS)
    connection.execute(sa.insert(session).values(values))
    return cookie


def end_session(connection: Connection, cookie: str) -> None:
    """Forgets a session."""
    connection.execute(sa.delete(session).where(session.c.hash == hash_of(cookie)))


def _make_local(connection: Connection) -> None:
    if connection.execute(sa.select(user.c.id).limit(1)).first() is None:
        values = dict(name=LOCAL, role="owner", created=time.time(), active=True)
        connection.execute(sa.insert(user).values(values))


def _one(connection: Connection, condition) -> User | None:
    row = connection.execute(sa.select(user).where(condition, user.c.active)).first()
    return None if row is None else _user(row)


def _user(row) -> User:
    return User(row.id, row.name, row.role, bool(row.active))


def _has_owner(connection: Connection) -> bool:
    query = sa.select(user.c.id).where(
        user.c.role == "owner", user.c.active, user.c.token_hash.is_not(None)
    )
    return connection.execute(query.limit(1)).first() is not None


def _new_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def _check_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > 100 or not name.isprintable():
        raise Refused("a user's name has 1 to 100 printable characters; write another name")
    if name == LOCAL:
        raise Refused(f"{LOCAL!r} is the person at this machine; write another name")
    return name


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise Refused(f"there is no role {role!r}; write one of {', '.join(ROLES)}")


def names(connection: Connection) -> dict[int, str]:
    """`{id: name}` of all users, the local one too."""
    return {row.id: row.name for row in connection.execute(sa.select(user.c.id, user.c.name))}
