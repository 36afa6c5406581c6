"""The studio as an ASGI application."""

import contextlib
import importlib
import pathlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from imgcls.core.errors import UserError, one_line
from imgcls.studio.errors import Refused
from imgcls.studio.home import Home
from imgcls.studio.settings import Settings

PAGE = pathlib.Path(__file__).parent / "page"
# Modules of `imgcls.studio.api`, each with a `router`.
ROUTERS = ()


def create_app(home: Home, settings: Settings | None = None) -> FastAPI:
    """Returns the application that serves a home: the API, and the page's files at `/`."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = FastAPI(
        title="imgcls studio",
        description="Upload, create classes, tag, train and look.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    for name in ROUTERS:
        app.include_router(importlib.import_module(f"imgcls.studio.api.{name}").router)
    app.add_exception_handler(UserError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")

    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    status, details = 400, {}
    if isinstance(error, Refused):
        status, details = error.status, error.details
    return JSONResponse({"error": one_line(error), **details}, status)


async def _refuse_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _refuse_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"error": f"{where}: {one_line(first['msg'])}; see /docs"}, 422)
