"""The model in the loop: suggestions, features for orders, and the audit."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from imgcls.studio.api import who
from imgcls.studio.api.bodies import Id, Write
from imgcls.studio.errors import Refused
from imgcls.studio.learning import features, findings, models, versions
from imgcls.studio.store import filters
from imgcls.studio.store.filters import Filter
from imgcls.studio.store.users import User

router = APIRouter(prefix="/api", tags=["suggestions"])

Path = Annotated[str, Field(min_length=1, max_length=4000)]


class Suggest(Write):
    """Which model predicts which images: a run, or the path of a checkpoint on the server."""

    run: Id | None = None
    checkpoint: Path | None = None
    filter: Filter | None = None


class Features(Write):
    """The run whose features are used; without one, colors, layout and edges of small pictures."""

    run: Id | None = None


class Audit(Features):
    """The version that is audited; without one, what is tagged now is frozen."""

    version: Id | None = None


@router.post("/datasets/{dataset}/suggest")
def suggest(request: Request, user: who.Reviewer, dataset: int, body: Suggest) -> dict[str, Any]:
    """Predict images; a suggestion is no tag until a person accepts it: `{"seq", "id", "model"}`.

    The progress is that of the run `id`; once it is done, its model is that of the data set.
    """
    wanted = body.run if body.run is not None else body.checkpoint
    if wanted is None or (body.run is not None and body.checkpoint is not None):
        raise Refused("write a run or a checkpoint, one of them")
    checkpoint, run = _checkpoint(request, user, wanted)
    ids = None
    if body.filter is not None:
        with request.app.state.database.read() as connection:
            ids = filters.ids(connection, dataset, user.id, body.filter)
    write = request.app.state.database.write
    found = write(models.suggest, user, dataset, body.request_id, checkpoint, run, ids)
    request.app.state.supervisor.wake()
    return found


@router.post("/datasets/{dataset}/features")
def compute_features(
    request: Request, user: who.Tagger, dataset: int, body: Features
) -> dict[str, Any]:
    """Compute features of all images, for the orders `diverse` and `similar`: `{"seq", "id"}`."""
    checkpoint = _checkpoint(request, user, body.run)[0] if body.run is not None else None
    write = request.app.state.database.write
    found = write(features.add, user, dataset, body.request_id, checkpoint, body.run)
    request.app.state.supervisor.wake()
    return found


@router.post("/datasets/{dataset}/audit")
def audit(request: Request, user: who.Reviewer, dataset: int, body: Audit) -> dict[str, Any]:
    """Audit a version: `{"seq", "id"}`. What it finds becomes filters and `sort=likely_wrong`."""
    state, version = request.app.state, body.version
    checkpoint = _checkpoint(request, user, body.run)[0] if body.run is not None else None
    if version is None:
        number = f"{body.request_id[:50]}.version"
        version = versions.freeze(state.database, state.home, user, dataset, number)["id"]
    with state.database.read() as connection:
        if versions.get(connection, version).dataset_id != dataset:
            raise Refused(f"version: {version} is of another data set")
    found = state.database.write(findings.add, user, dataset, body.request_id, version, checkpoint)
    state.supervisor.wake()
    return found


def _checkpoint(request: Request, user: User, wanted: int | str) -> tuple[str, int | None]:
    state = request.app.state
    allow = state.settings.allow_configs
    with state.database.read() as connection:
        return models.checkpoint_of(connection, state.home, user, wanted, allow)
