"""A local emulator of a Google Cloud Storage bucket, extended for TensorStore."""

import contextlib
import socket
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from unittest import mock


@contextlib.contextmanager
def serve(bucket: str) -> Iterator[dict[str, str]]:
    """Serves an empty bucket from memory; yields the environment variables for commands.

    Raises:
      ImportError: gcsfs or the emulator is not installed.
    """
    import gcsfs  # noqa: F401
    from gcp_storage_emulator import server

    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    handlers = tuple(
        (pattern, {method: _generations(handle) for method, handle in methods.items()})
        for pattern, methods in server.HANDLERS
    )
    with mock.patch.object(server, "HANDLERS", handlers):
        bucket_server = server.create_server("localhost", port, True, default_bucket=bucket)
        bucket_server.start()
        try:
            yield _env(f"http://localhost:{port}")
        finally:
            bucket_server.stop()


def _env(address: str) -> dict[str, str]:
    urllib.request.urlopen(f"{address}/storage/v1/b").close()
    return {
        "STORAGE_EMULATOR_HOST": address,  # gcsfs
        "TENSORSTORE_GCS_HTTP_URL": address,
        # No requests for the type of the bucket, nor to the metadata server.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "NO_GCE_CHECK": "true",
    }


def _generations(handle):
    """Returns a request handler that supports conditions on the generation of an object.

    By these TensorStore writes a manifest only over the one that it has read.
    """

    def handle_with_generations(request, response, storage, *args, **kwargs):
        name = request.params.get("object_id") or request.query.get("name", [None])[0]
        now = _generation(storage, request.params.get("bucket_name"), name)
        asked = request.query.get("ifGenerationMatch")
        if asked and asked[0] != now:
            request.data  # noqa: B018, what was sent must be read before the answer
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        if (
            request.method == "GET"
            and now == (request.query.get("ifGenerationNotMatch") or [""])[0]
        ):
            response.status = HTTPStatus.NOT_MODIFIED
            return
        if "media" in request.query.get("alt", ()):
            response["x-goog-generation"] = now
        handle(request, response, storage, *args, **kwargs)

    return handle_with_generations


def _generation(storage, bucket: str | None, name: str | None) -> str:
    from gcp_storage_emulator.exceptions import NotFound

    try:
        return storage.get_file_obj(bucket, name)["generation"]
    except NotFound:
        return "0"
