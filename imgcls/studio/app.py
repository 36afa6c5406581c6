"""The studio as an ASGI application."""

import contextlib
import importlib
import pathlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from imgcls.core.errors import UserError, one_line
from imgcls.studio.errors import Refused
from imgcls.studio.events import Events
from imgcls.studio.guards import LOOPBACK, Guard, check_bind
from imgcls.studio.home import Home
from imgcls.studio.learning.service import create_supervisor
from imgcls.studio.pictures.ingest import Ingest
from imgcls.studio.pictures.uploads import Uploads
from imgcls.studio.settings import Settings
from imgcls.studio.store.connect import Database
from imgcls.studio.store.users import People

PAGE = pathlib.Path(__file__).parent / "page"
# Kept by browsers, and used only once the server says that it is still the newest.
FRESH = {"cache-control": "no-cache"}
# Modules of `imgcls.studio.api`, each with a `router`.
ROUTERS = (
    "users",
    "datasets",
    "classes",
    "images",
    "answers",
    "pictures",
    "upload",
    "uploads",
    "events",
    "training",
    "exchange",
    "suggest",
)


def create_app(home: Home, settings: Settings | None = None) -> FastAPI:
    """Returns the application that serves a home: the API, and the page at `/`.

    Its `state` has what the API's functions use: `home`, `settings`, `database`, `events`,
    `ingest`, `uploads` and `supervisor`.

    Raises:
      ConfigError: the database can't be opened, or strangers could reach a home without users.
    """
    settings = settings or Settings()
    database = Database(home.database_url)
    people = People(database)
    check_bind(settings.host, people.local() is None)
    events = Events(database)
    supervisor = create_supervisor(database, home, events)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        supervisor.start()
        yield
        supervisor.close()
        events.close()
        database.close()

    app = FastAPI(
        title="imgcls studio",
        description="Upload, create classes, tag, train and look.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.home, app.state.settings = home, settings
    app.state.database, app.state.events = database, events
    app.state.ingest = Ingest(home, database, settings.roots)
    app.state.supervisor = supervisor
    app.state.uploads = Uploads(home, database)
    app.add_middleware(
        Guard, people=people, hosts=settings.hosts, network=settings.host not in LOOPBACK
    )
    for name in ROUTERS:
        app.include_router(importlib.import_module(f"imgcls.studio.api.{name}").router)
    app.add_exception_handler(UserError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    app.add_exception_handler(OverflowError, _refuse_value)
    app.add_exception_handler(DataError, _refuse_value)

    @app.get("/", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    @app.get("/d/{path:path}", include_in_schema=False)
    def page() -> FileResponse:
        """The page; it reads its address itself."""
        return FileResponse(PAGE / "index.html", headers=FRESH)

    app.mount("/page", PageFiles(directory=PAGE), name="page")
    return app


class PageFiles(StaticFiles):
    """The page's files, which browsers ask for again when a newer studio is installed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH)
        return response


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    status, details = 400, {}
    if isinstance(error, Refused):
        status, details = error.status, error.details
    return JSONResponse({"error": one_line(error), **details}, status)


async def _refuse_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _refuse_value(_: Request, error: Exception) -> JSONResponse:
    """The database has no place for it: a number of 20 digits, a zero in a text."""
    line = "a number is too large, or a text has a zero character; see /docs"
    return JSONResponse({"error": line}, 422)


async def _refuse_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"error": f"{where}: {one_line(first['msg'])}; see /docs"}, 422)
