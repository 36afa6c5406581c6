"""The tab of training: versions, recipes, runs and their results."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from pydantic import Field

from imgcls.studio.api import who
from imgcls.studio.api.bodies import Id, Write
from imgcls.studio.errors import NotFound
from imgcls.studio.learning import models, recipes, runs, training, versions
from imgcls.studio.wire import REPORT_POLICY

router = APIRouter(prefix="/api", tags=["training"])

Position = Annotated[int, Query(ge=-1, le=2**53)]
Key = Annotated[str, Field(max_length=200, pattern=r"^[\w.]+$")]
Value = str | int | float | bool | None


class NewVersion(Write):
    """A version to freeze: what is tagged now. Without a name it is `v1`, `v2`, ..."""

    name: Annotated[str, Field(max_length=200)] | None = None


class NewRun(Write):
    """A run to start, on a version (null: what is tagged now is frozen).

    `arguments` are those of the recipe, see `GET /api/recipes`; `config` has any keys of the
    config, as text or as values.
    """

    version: Id | None = None
    recipe: Annotated[str, Field(min_length=1, max_length=500)]
    arguments: dict[Key, Value] = {}
    config: dict[Key, Value] | Annotated[str, Field(max_length=20_000)] = {}


@router.get("/datasets/{dataset}/versions")
def list_versions(request: Request, user: who.Tagger, dataset: int) -> list[dict[str, Any]]:
    """The versions of a data set, newest first."""
    with request.app.state.database.read() as connection:
        return versions.listing(connection, dataset)


@router.post("/datasets/{dataset}/versions")
def freeze(request: Request, user: who.Owner, dataset: int, body: NewVersion) -> dict[str, Any]:
    """Freeze what is tagged. The same tags are the same version: `unchanged` says so."""
    state = request.app.state
    name = (body.name or "").strip()
    return versions.freeze(state.database, state.home, user, dataset, body.request_id, name)


@router.get("/recipes")
def list_recipes(user: who.Tagger) -> dict[str, Any]:
    """The recipes with their arguments, as fields of a form, and all keys with their defaults."""
    return {"recipes": recipes.list_recipes(), "keys": recipes.list_keys()}


@router.get("/datasets/{dataset}/runs")
def list_runs(request: Request, user: who.Tagger, dataset: int) -> list[dict[str, Any]]:
    """The runs of a data set, newest first: training, suggestions, features and audits."""
    with request.app.state.database.read() as connection:
        rows = runs.listing(connection, dataset)
    return [runs.public(request.app.state.home, row) for row in rows]


@router.post("/datasets/{dataset}/runs")
def start_run(request: Request, user: who.Owner, dataset: int, body: NewRun) -> dict[str, Any]:
    """Train: `{"seq", "id", "version"}`. A run waits while another one trains."""
    state, version = request.app.state, body.version
    keys = recipes.read_keys(body.config) if isinstance(body.config, str) else body.config
    if version is None:
        number = f"{body.request_id[:50]}.version"
        version = versions.freeze(state.database, state.home, user, dataset, number)["id"]
    found = state.database.write(
        *(training.add, state.home, user, dataset, body.request_id),
        version_id=version,
        recipe=body.recipe,
        arguments=body.arguments,
        keys=keys,
        allow_configs=state.settings.allow_configs,
    )
    state.supervisor.wake()
    return found


@router.get("/runs/{run}")
def get_run(request: Request, user: who.Tagger, run: int) -> dict[str, Any]:
    """A run: its state, how far it is, and the last of each metric."""
    return runs.public(request.app.state.home, _row(request, run))


@router.post("/runs/{run}/stop")
def stop_run(request: Request, user: who.Owner, run: int, body: Write) -> dict[str, Any]:
    """Stop a run: it saves its state, and can be continued."""
    found = request.app.state.database.write(runs.ask_to_stop, user, run, body.request_id)
    request.app.state.supervisor.wake()
    return found


@router.post("/runs/{run}/continue")
def continue_run(request: Request, user: who.Owner, run: int, body: Write) -> dict[str, Any]:
    """Continue a run that was stopped, or that failed, from its last checkpoint."""
    found = request.app.state.database.write(runs.ask_to_continue, user, run, body.request_id)
    request.app.state.supervisor.wake()
    return found


@router.post("/runs/{run}/use")
def use_run(request: Request, user: who.Owner, run: int, body: Write) -> dict[str, Any]:
    """Make the model of a run that of the data set, for suggestions."""
    state = request.app.state
    return state.database.write(models.use, state.home, user, run, body.request_id)


@router.get("/runs/{run}/metrics")
def get_metrics(
    request: Request, user: who.Tagger, run: int, since: Position = -1
) -> dict[str, Any]:
    """The metrics after a step: `{"rows": [{"step", "time", "train/loss", ...}]}`."""
    folder = runs.folder_of(request.app.state.home, _row(request, run))
    return {"rows": runs.metrics_since(folder, since)}


@router.get("/runs/{run}/log")
def get_log(request: Request, user: who.Tagger, run: int, since: Position = 0) -> dict[str, Any]:
    """The log from a byte on, and the byte to ask for next: `{"text", "next"}`."""
    folder = runs.folder_of(request.app.state.home, _row(request, run))
    return runs.log_since(folder, since)


@router.get("/runs/{run}/report", response_class=FileResponse)
def get_report(request: Request, user: who.Tagger, run: int) -> FileResponse:
    """The report of a run that is done, or the page of an audit."""
    row = _row(request, run)
    file = runs.report_file(request.app.state.home, row)
    if file is None:
        raise NotFound(f"run {run} is {row.state} and has no report")
    headers = {"content-security-policy": REPORT_POLICY}
    return FileResponse(file, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/runs/{run}/confusion")
def get_confusion(request: Request, user: who.Tagger, run: int) -> dict[str, Any]:
    """Tags (rows) against predictions (columns), with the images of each cell."""
    with request.app.state.database.read() as connection:
        row = runs.get(connection, run)
        return training.confusion(connection, request.app.state.home, row)


@router.get("/runs/{run}/mistakes")
def get_mistakes(request: Request, user: who.Tagger, run: int) -> dict[str, Any]:
    """The images that a model got wrong, the most certain mistakes first."""
    with request.app.state.database.read() as connection:
        row = runs.get(connection, run)
        return training.mistakes(connection, request.app.state.home, row)


def _row(request: Request, run: int) -> Any:
    with request.app.state.database.read() as connection:
        return runs.get(connection, run)
