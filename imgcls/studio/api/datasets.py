"""Data sets; undo and redo; agreement of taggers."""

from typing import Any

from fastapi import APIRouter, Request

from imgcls.studio.api import who
from imgcls.studio.api.bodies import DatasetChange, NewDataset, Undo
from imgcls.studio.learning import models
from imgcls.studio.store import agreement, datasets, undo

router = APIRouter(prefix="/api", tags=["data sets"])


@router.get("/datasets")
def list_datasets(request: Request, user: who.Tagger) -> list[dict[str, Any]]:
    """All data sets, newest first."""
    with request.app.state.database.read() as connection:
        return datasets.listing(connection)


@router.post("/datasets")
def create_dataset(request: Request, user: who.Owner, body: NewDataset) -> dict[str, Any]:
    """Make a data set: `{"seq", "id"}`."""
    values = {k: v for k, v in body.given().items() if v is not None}
    return request.app.state.database.write(datasets.create, user, body.request_id, **values)


@router.get("/datasets/{dataset}")
def get_dataset(request: Request, user: who.Tagger, dataset: int) -> dict[str, Any]:
    """A data set with its counts by split, status and class, and the `seq` of its last change."""
    with request.app.state.database.read() as connection:
        row = datasets.get(connection, dataset)
        of_run = {"model_run_id": models.run_of(connection, row.model_id)}
        return {**row._mapping, **datasets.counts(connection, dataset, user.id), **of_run}


@router.patch("/datasets/{dataset}")
def change_dataset(
    request: Request, user: who.Owner, dataset: int, body: DatasetChange
) -> dict[str, Any]:
    """Rename, archive, or change the kind, the taggers of an image, or the fractions."""
    write = request.app.state.database.write
    return write(datasets.update, user, dataset, body.request_id, **body.given())


@router.get("/datasets/{dataset}/history")
def list_changes(
    request: Request, user: who.Tagger, dataset: int, before: int = 2**31 - 1, limit: int = 100
) -> list[dict[str, Any]]:
    """The actions in a data set, newest first, those with a `seq` below `before`."""
    with request.app.state.database.read() as connection:
        return datasets.history(connection, dataset, before, max(1, min(limit, 1000)))


@router.get("/datasets/{dataset}/agreement")
def get_agreement(request: Request, user: who.Tagger, dataset: int) -> dict[str, Any]:
    """Cohen's kappa of each pair of taggers."""
    with request.app.state.database.read() as connection:
        return agreement.agreement(connection, dataset)


@router.post("/undo")
def undo_last(request: Request, user: who.Tagger, body: Undo) -> dict[str, Any]:
    """Undo your last action in a data set."""
    return request.app.state.database.write(undo.undo, user, body.dataset, body.request_id)


@router.post("/redo")
def redo_last(request: Request, user: who.Tagger, body: Undo) -> dict[str, Any]:
    """Redo what you undid last in a data set."""
    return request.app.state.database.write(undo.redo, user, body.dataset, body.request_id)
