"""What the studio refuses, with the status of the HTTP answer."""

from typing import Any

from imgcls.core.errors import UserError


class Refused(UserError):
    """A request that is not carried out. The message says what, where, and what to write instead.

    Attributes:
      status: of the HTTP answer.
      details: further keys of the answer, beside `error`.
    """

    status = 400

    def __init__(self, message: str, **details: Any):
        super().__init__(message)
        self.details = details


class NotSignedIn(Refused):
    """Nobody, or an unknown token."""

    status = 401


class Forbidden(Refused):
    """The user's role does not allow it."""

    status = 403


class NotFound(Refused):
    """There is no such data set, class, image, ..."""

    status = 404


class Conflict(Refused):
    """Somebody changed it since, or its state does not allow it."""

    status = 409


class TooSlow(Refused):
    """A body that comes too slowly."""

    status = 408


class TooLarge(Refused):
    """More bytes, pixels or items than allowed."""

    status = 413


class Misdirected(Refused):
    """The request names another server."""

    status = 421


class TooMany(Refused):
    """More requests than allowed in this time."""

    status = 429


class DiskFull(Refused):
    """The disk of the home is full; what was stored before is kept."""

    status = 507
