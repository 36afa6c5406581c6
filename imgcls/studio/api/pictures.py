"""Pictures of images, frames of videos, slices of volumes, and the files themselves."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from imgcls.studio.api import who
from imgcls.studio.errors import Refused
from imgcls.studio.pictures import thumbnails
from imgcls.studio.store import images

router = APIRouter(prefix="/api/images", tags=["pictures"])

# An image never changes: the same id is the same content.
_FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
Size = Annotated[int, Query(ge=16, le=thumbnails.MAX_SIDE)]


@router.get("/{image}/thumbnail", response_class=Response, responses=_JPEG)
def get_thumbnail(request: Request, user: who.Tagger, image: int, size: int = 256) -> Response:
    """A JPEG that fits into 64, 128, 256 or 512 pixels."""
    state = request.app.state
    row = _row(request, image)
    return _jpeg(thumbnails.thumbnail(state.home, row, size, state.settings.roots))


@router.get("/{image}/picture", response_class=Response, responses=_JPEG)
def get_picture(request: Request, user: who.Tagger, image: int, size: Size = 2048) -> Response:
    """A JPEG for the image view: of a video a frame, of a volume the middle slice."""
    state = request.app.state
    row = _row(request, image)
    return _jpeg(thumbnails.picture(state.home, row, size, state.settings.roots))


@router.get("/{image}/frame", response_class=Response, responses=_JPEG)
def get_frame(
    request: Request,
    user: who.Tagger,
    image: int,
    at: Annotated[int, Query(ge=0, le=2**31 - 1)],
    size: Size = 1024,
) -> Response:
    """A frame of a video by its number, from 0."""
    row = _row(request, image)
    if row.media != "video":
        raise Refused(f"image {image} is no video; use /picture")
    state = request.app.state
    with thumbnails.open_image(state.home, row, state.settings.roots) as opened:
        return _jpeg(thumbnails.to_jpeg(opened.frame(at), size))


@router.get("/{image}/slice", response_class=Response, responses=_JPEG)
def get_slice(
    request: Request,
    user: who.Tagger,
    image: int,
    at: Annotated[int, Query(ge=0, le=2**31 - 1)],
    axis: Annotated[int, Query(ge=0, le=2)] = 0,
    size: Size = 1024,
) -> Response:
    """A slice of a volume by its number, across axis 0 (depth), 1 (height) or 2 (width)."""
    row = _row(request, image)
    if row.media != "volume":
        raise Refused(f"image {image} is no volume; use /picture")
    state = request.app.state
    with thumbnails.open_image(state.home, row, state.settings.roots) as opened:
        return _jpeg(thumbnails.to_jpeg(opened.slice(axis, at), size))


@router.get("/{image}/original", response_class=StreamingResponse)
def get_original(request: Request, user: who.Tagger, image: int) -> StreamingResponse:
    """The file as it was uploaded, to be saved."""
    state = request.app.state
    row = _row(request, image)
    opened = thumbnails.open_image(state.home, row, state.settings.roots)
    headers = {
        "content-disposition": f'attachment; filename="{row.sha256}.{row.extension}"',
        "content-length": str(row.bytes),
        "cache-control": _FOREVER["cache-control"],
    }
    return StreamingResponse(
        opened.blocks(), media_type="application/octet-stream", headers=headers
    )


def _row(request: Request, image: int) -> Any:
    with request.app.state.database.read() as connection:
        return images.get(connection, image)


def _jpeg(data: bytes) -> Response:
    return Response(data, media_type="image/jpeg", headers=_FOREVER)
