"""Upload of small files in one request; large ones are sent in parts, see `uploads`."""

import pathlib
import shutil
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, UploadFile

from imgcls.studio.api import who
from imgcls.studio.api.bodies import RequestId
from imgcls.studio.errors import DiskFull, Refused
from imgcls.studio.pictures.archives import check_name
from imgcls.studio.pictures.ingest import Item
from imgcls.studio.pictures.uploads import expand

router = APIRouter(prefix="/api", tags=["upload"])


@router.post("/datasets/{dataset}/upload")
def upload(
    request: Request,
    user: who.Tagger,
    dataset: int,
    files: Annotated[list[UploadFile], File(description="A name may have folders: a/b.jpg")],
    form_id: Annotated[RequestId | None, Form(alias="request_id")] = None,
    query_id: Annotated[RequestId | None, Query(alias="request_id")] = None,
) -> dict[str, Any]:
    """Upload files, and the files in zips: `{"seq", "added": ids, "duplicates", "unreadable"}`."""
    state = request.app.state
    saved: list[pathlib.Path] = []
    items: list[Item] = []
    refused: list[dict[str, str]] = []
    try:
        for file in files:
            try:
                folder, _, name = check_name(file.filename or "").rpartition("/")
            except Refused as e:
                refused.append({"name": (file.filename or "")[:200], "why": str(e)})
                continue
            path = state.home.uploads / f"{uuid.uuid4()}.part"
            saved.append(path)
            _save(file, path)
            found, unusable = expand(path, f"{folder}/{name or 'unnamed'}", state.home.uploads)
            items += found
            refused += unusable
        result = state.ingest.run(user, dataset, items, form_id or query_id)
    finally:
        for path in saved + [item.path for item in items]:
            path.unlink(missing_ok=True)
    return {**result, "unreadable": refused + result["unreadable"]}


def _save(file: UploadFile, path: pathlib.Path) -> None:
    try:
        with open(path, "xb") as target:
            shutil.copyfileobj(file.file, target)
    except OSError as e:
        raise DiskFull(
            f"the home can't store {file.filename!r}: {e.strerror}; make space and send it again"
        ) from e
