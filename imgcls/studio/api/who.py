"""Who sends a request, as parameters of the API's functions: `def f(user: who.Reviewer)`.

The guard has found the user; here the role is checked.
"""

from typing import Annotated

from fastapi import Depends, Request

from imgcls.studio.errors import Forbidden, NotSignedIn
from imgcls.studio.store.users import User


def _at_least(role: str):
    # Not a plain function, which would cost each request one more thread.
    async def check(request: Request) -> User:
        user: User | None = getattr(request.state, "user", None)
        if user is None:
            raise NotSignedIn("log in first: POST the token to /api/login")
        if not user.may(role):
            article = "an" if role == "owner" else "a"
            raise Forbidden(f"this needs {article} {role}, and {user.name!r} is a {user.role}")
        return user

    return Depends(check)


Tagger = Annotated[User, _at_least("tagger")]
Reviewer = Annotated[User, _at_least("reviewer")]
Owner = Annotated[User, _at_least("owner")]
