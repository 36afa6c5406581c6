"""Export of versions, and import of labels."""

import pathlib
import shutil
import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse

from imgcls.studio.api import who
from imgcls.studio.api.bodies import RequestId
from imgcls.studio.errors import Refused
from imgcls.studio.exchange import bring, write
from imgcls.studio.learning import versions
from imgcls.studio.store import datasets

router = APIRouter(prefix="/api", tags=["exchange"])

FormatName = Literal["manifest", "jsonl", "darwin", "labelstudio", "coco", "links"]


@router.get("/versions/{version}/export", response_class=FileResponse)
def export(
    request: Request,
    user: who.Tagger,
    tasks: BackgroundTasks,
    version: int,
    format: FormatName = "manifest",
    images: bool = True,
) -> FileResponse:
    """A zip of a version in a format, with its images or (`images=0`) without."""
    state = request.app.state
    with state.database.read() as connection:
        row = versions.get(connection, version)
        name = datasets.get(connection, row.dataset_id).name
    found = versions.load(state.home, row, name)
    place = state.home.exports / f"export-{uuid.uuid4()}"
    file = place.with_suffix(".zip")
    try:
        write.write(found, format, place, "link" if images else "none")
        write.zip_folder(place, file)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
    tasks.add_task(file.unlink, missing_ok=True)
    download = f"dataset-{row.dataset_id}-version-{row.id}-{format}.zip"
    return FileResponse(file, media_type="application/zip", filename=download)


@router.post("/datasets/{dataset}/import")
def import_labels(
    request: Request,
    user: who.Owner,
    dataset: int,
    file: Annotated[UploadFile, File(description="labels, or a zip of labels and images")],
    form_id: Annotated[RequestId | None, Form(alias="request_id")] = None,
    query_id: Annotated[RequestId | None, Query(alias="request_id")] = None,
    splits: Annotated[bool, Query(description="also move tagged images to other splits")] = False,
) -> dict[str, Any]:
    """Import tags, and images that come along. The format is found by the content.

    Images that are there are known by their content, else by folder and name. The answer counts
    what was brought, and names what fits no image.
    """
    state, request_id = request.app.state, form_id or query_id
    if request_id is None:
        raise Refused("request_id: make a UUID, and send it with the file")
    path = pathlib.Path(state.home.uploads / f"{uuid.uuid4()}.part")
    try:
        with open(path, "xb") as target:
            shutil.copyfileobj(file.file, target)
        studio = bring.Studio(state.home, state.database, state.ingest)
        name = file.filename or "labels"
        return bring.bring(studio, user, dataset, request_id, path, name, splits)
    finally:
        path.unlink(missing_ok=True)
