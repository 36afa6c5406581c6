"""A studio's application with real images, driven by its API."""

import contextlib
import pathlib
import time
import uuid
from collections.abc import Iterator
from typing import Any

from starlette.testclient import TestClient

from imgcls.studio.app import create_app
from imgcls.studio.home import Home
from imgcls.studio.settings import Settings
from tests.data.own import CLASSES, unpack_cifar10

# A network of one stage, for two steps: a process of a few seconds.
TINY = {
    "recipe": "own",
    "arguments": {"size": 24, "width": 8, "epochs": 1, "weights": ""},
    "config": {"model.stage_sizes": "(1,)", "total": "2 steps", "batch_size": "16"},
}


class Api:
    """The API of a server, with a request id for each write."""

    def __init__(self, client: TestClient):
        self.client = client

    def get(self, path: str, **options: Any) -> Any:
        """The JSON of a GET; fails unless its status is 200."""
        found = self.client.get(f"/api/{path}", **options)
        assert found.status_code == 200, found.text
        return found.json()

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        """The JSON of a POST with a request id; fails unless its status is `status`."""
        found = self.client.post(f"/api/{path}", json={"request_id": str(uuid.uuid4()), **body})
        assert found.status_code == status, found.text
        return found.json()

    def cells(self, dataset: int, ids: list[int]) -> list[dict[str, Any]]:
        """The cells of images."""
        found = self.client.post(f"/api/datasets/{dataset}/cells", json={"ids": ids})
        assert found.status_code == 200, found.text
        return found.json()

    def wait(self, run: int, *states: str, seconds: float = 120) -> Any:
        """The run, once it is in one of the states; 'done' by default."""
        end = time.monotonic() + seconds
        while True:
            found = self.get(f"runs/{run}")
            if found["state"] in (states or ("done",)):
                return found
            log = self.get(f"runs/{run}/log")["text"]
            assert found["state"] in ("waiting", "running", "stopping"), (found, log)
            assert time.monotonic() < end, (found, log)
            time.sleep(0.1)

    def upload(self, dataset: int, files: list[tuple[str, bytes]]) -> list[int]:
        """Uploads files by name; returns their ids."""
        parts = [("files", (name, data, "image/jpeg")) for name, data in files]
        form = {"request_id": str(uuid.uuid4())}
        found = self.client.post(f"/api/datasets/{dataset}/upload", files=parts, data=form)
        assert found.status_code == 200, found.text
        assert not found.json()["unreadable"], found.text
        return found.json()["added"]


@contextlib.contextmanager
def serve(home: pathlib.Path, **settings: Any) -> Iterator[Api]:
    """Serves a home."""
    app = create_app(Home(home), Settings(**settings))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        yield Api(client)


def read_images(shared: pathlib.Path, folder: pathlib.Path, each: int) -> list[tuple[str, bytes]]:
    """`each` real images of three classes: `CLASS/NUMBER.jpg` and bytes."""
    return [(path, (folder / path).read_bytes()) for path in unpack_cifar10(shared, folder, each)]


def fill(api: Api, files: list[tuple[str, bytes]], kind: str = "single", **names: Any) -> int:
    """Makes a data set with images of `CLASSES`, tagged with their folders; returns its id."""
    dataset = api.post("datasets", name=str(uuid.uuid4()), kind=kind, **names)["id"]
    classes = [{"name": name} for name in reversed(CLASSES)]
    made = api.post(f"datasets/{dataset}/classes", classes=classes)["ids"]
    api.upload(dataset, files)
    for name, class_id in zip(reversed(CLASSES), made, strict=True):
        select = {"filter": {"folder": [name]}}
        api.post(f"datasets/{dataset}/bulk", select=select, action={"tag": [class_id]})
    return dataset
