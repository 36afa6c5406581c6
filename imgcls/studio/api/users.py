"""Log in and out; users and their tokens."""

from typing import Annotated, Literal

import pydantic
from fastapi import APIRouter, Request, Response

from imgcls.studio.api import who
from imgcls.studio.errors import Conflict, NotSignedIn
from imgcls.studio.guards import cookie_name
from imgcls.studio.store import users
from imgcls.studio.store.users import User

router = APIRouter(prefix="/api", tags=["users"])

Role = Literal["tagger", "reviewer", "owner"]
Short = Annotated[str, pydantic.Field(max_length=200)]


class Login(pydantic.BaseModel):
    """The token of a user."""

    token: Short


class NewUser(pydantic.BaseModel):
    """A user to add. `request_id` is as in all writes; a token is never given twice."""

    name: Short
    role: Role = "tagger"


class UserChange(pydantic.BaseModel):
    """What changes: a key that is left out stays. `token: true` gives a new one."""

    role: Role | None = None
    active: bool | None = None
    token: bool = False


def shown(user: User) -> dict:
    """A user as the API returns it."""
    return {"id": user.id, "name": user.name, "role": user.role, "active": user.active}


@router.get("/me")
def get_me(user: who.Tagger) -> dict:
    """Who sends this request. `local`: the home has no users."""
    return {**shown(user), "local": user.name == users.LOCAL}


@router.post("/login")
def log_in(request: Request, response: Response, body: Login) -> dict:
    """Log in with a token: a browser gets a cookie that only this server sees, and no script."""
    database = request.app.state.database
    with database.read() as connection:
        user = users.of_token(connection, body.token)
    if user is None:
        request.state.guard.failed_login(request.scope)
        raise NotSignedIn("unknown or revoked token; ask an owner of this home for a new one")
    cookie = database.write(users.start_session, user)
    response.set_cookie(
        cookie_name(request.headers["host"]),
        cookie,
        max_age=int(users.SESSION_SECONDS),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )
    return shown(user)


@router.post("/logout")
def log_out(request: Request, response: Response) -> dict:
    """Log out: the cookie is worth nothing from now on."""
    name = cookie_name(request.headers["host"])
    if cookie := request.cookies.get(name):
        request.app.state.database.write(users.end_session, cookie)
    request.state.guard.forget()
    response.delete_cookie(name, path="/", httponly=True, samesite="strict")
    return {}


@router.get("/users")
def list_users(request: Request, user: who.Tagger) -> dict:
    """All users, for the names beside tags. Tokens are not stored, so they are not shown."""
    with request.app.state.database.read() as connection:
        return {"users": [shown(one) for one in users.list_users(connection)]}


@router.post("/users")
def add_user(request: Request, user: who.Owner, body: NewUser) -> dict:
    """Add a user. The answer has its `token`, which is shown this once.

    The first user of a home has to be an owner: from then on, nobody comes in without a token.
    """
    if user.name == users.LOCAL and body.role != "owner":
        raise Conflict("the first user has to be an owner, or nobody could add others; role owner")
    added, token = request.app.state.database.write(users.add_user, body.name, body.role)
    request.state.guard.forget()
    return {**shown(added), "token": token}


@router.patch("/users/{number}")
def change_user(request: Request, user: who.Owner, number: int, body: UserChange) -> dict:
    """Change a role, revoke (`active: false`) or readmit a user, or give it a new token."""

    def change(connection) -> dict:
        changed = users.change_user(connection, number, body.role, body.active)
        token = {"token": users.renew_token(connection, number)} if body.token else {}
        return {**shown(changed), **token}

    result = request.app.state.database.write(change)
    request.state.guard.forget()
    return result
