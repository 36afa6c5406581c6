"""The studio from Python: everything that the API does.

    client = Client("http://127.0.0.1:8765")
    dataset = client.create_dataset("pets")
    client.create_classes(dataset, ["cat", "dog"])
    client.upload(dataset, ["photos"])

Writes carry a request id, so that one that is sent again after a lost connection changes nothing.
"""

import json
import mimetypes
import pathlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from imgcls.core.errors import ConfigError, UserError
from imgcls.studio.learning.client import LearningMethods

# Files up to this size are sent many at once, larger ones and zips in parts.
SMALL = 8 << 20
_TOGETHER = 50
_PART = 4 << 20
_TRIES = 4


class StudioError(UserError):
    """An answer that is an error.

    Attributes:
      status: of the HTTP answer.
      details: the whole answer: `error`, and `stale` where somebody was faster.
    """

    def __init__(self, status: int, details: dict[str, Any]):
        super().__init__(details.get("error", f"HTTP status {status}"))
        self.status, self.details = status, details


class Client(LearningMethods):
    """A connection to a studio.

    Args:
      url: of the studio: `http://127.0.0.1:8765`.
      token: of a user; needed on homes with users.
      http: for tests, an `httpx.Client` or one like it.
    """

    def __init__(self, url: str = "http://127.0.0.1:8765", token: str = "", http: Any = None):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = http or httpx.Client(base_url=url, headers=headers, timeout=600)
        self._url = url

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()

    # ---- Requests.

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Sends a request again until it is answered; returns the answer's JSON.

        Raises:
          StudioError: the answer is an error.
          ConfigError: there is no answer.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                response = self._http.request(method, f"/api{path}", **options)
                break
            except httpx.TransportError as e:
                if attempt == _TRIES:
                    raise ConfigError(
                        f"{self._url}: no answer ({e}); is the studio running?"
                    ) from e
                time.sleep(0.2 * 4**attempt / 4)
        if response.status_code == 429:
            time.sleep(float(response.headers.get("retry-after", 1)))
            return self.request(method, path, **options)
        if response.status_code >= 400:
            raise StudioError(response.status_code, _details(response))
        if response.headers.get("content-type", "").startswith("application/json"):
            return response.json()
        return response.content

    def get(self, path: str, **query: Any) -> Any:
        """Reads; parameters that are None are left out."""
        return self.request("GET", path, params=_query(query))

    def write(self, method: str, path: str, **body: Any) -> Any:
        """Writes, with a new request id unless `request_id` is given."""
        body.setdefault("request_id", str(uuid.uuid4()))
        return self.request(method, path, json=body)

    # ---- People.

    def me(self) -> dict[str, Any]:
        """Who the token belongs to."""
        return self.get("/me")

    def users(self) -> list[dict[str, Any]]:
        """All users; for owners."""
        return self.get("/users")

    def add_user(self, name: str, role: str = "tagger") -> dict[str, Any]:
        """Adds a user; the answer has the token, which is shown this once."""
        return self.request("POST", "/users", json={"name": name, "role": role})

    def change_user(self, user: int, **values: Any) -> dict[str, Any]:
        """Changes `role` or `active`, or gives a new token with `token=True`."""
        return self.request("PATCH", f"/users/{user}", json=values)

    # ---- Data sets and classes.

    def datasets(self) -> list[dict[str, Any]]:
        """All data sets."""
        return self.get("/datasets")

    def create_dataset(self, name: str, **values: Any) -> int:
        """Makes a data set (`kind`, `taggers`, `fractions`); returns its id."""
        return self.write("POST", "/datasets", name=name, **values)["id"]

    def dataset(self, dataset: int) -> dict[str, Any]:
        """A data set with its counts."""
        return self.get(f"/datasets/{dataset}")

    def change_dataset(self, dataset: int, **values: Any) -> dict[str, Any]:
        """Changes `name`, `kind`, `taggers`, `archived` or `fractions`."""
        return self.write("PATCH", f"/datasets/{dataset}", **values)

    def classes(self, dataset: int) -> list[dict[str, Any]]:
        """The classes in their order."""
        return self.get(f"/datasets/{dataset}/classes")

    def create_classes(
        self, dataset: int, classes: Iterable[str | Mapping[str, Any]], **options: Any
    ) -> list[int]:
        """Makes classes, by name or as `{"name", "hotkey", "attributes", ...}`; returns ids."""
        wanted = [{"name": c} if isinstance(c, str) else dict(c) for c in classes]
        return self.write("POST", f"/datasets/{dataset}/classes", classes=wanted, **options)["ids"]

    def change_class(self, class_id: int, **values: Any) -> dict[str, Any]:
        """Changes `name`, `colour`, `hotkey`, `description`, `position` or `attributes`."""
        return self.write("PATCH", f"/classes/{class_id}", **values)

    def effect(self, class_id: int, merge_into: int | None = None) -> dict[str, Any]:
        """What deleting or merging a class does, before it is done."""
        return self.get(f"/classes/{class_id}/effect", merge_into=merge_into)

    def merge_class(self, class_id: int, into: int, **options: Any) -> dict[str, Any]:
        """Merges a class into another."""
        return self.write("POST", f"/classes/{class_id}/merge", into=into, **options)

    def delete_class(self, class_id: int, **options: Any) -> dict[str, Any]:
        """Deletes a class."""
        return self.write("DELETE", f"/classes/{class_id}", **options)

    # ---- Images.

    def ids(self, dataset: int, sort: str = "id", **filters: Any) -> list[int]:
        """The images that a filter selects; `class` is written `**{"class": 3}`."""
        return self.get(f"/datasets/{dataset}/ids", sort=sort, **filters)["ids"]

    def cells(self, dataset: int, ids: Sequence[int]) -> list[dict[str, Any]]:
        """What the grid shows of images."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), 500):
            body = {"ids": list(ids[start : start + 500])}
            found += self.request("POST", f"/datasets/{dataset}/cells", json=body)
        return found

    def image(self, image: int) -> dict[str, Any]:
        """All about an image."""
        return self.get(f"/images/{image}")

    def history(self, image: int) -> list[dict[str, Any]]:
        """Who changed what of an image, newest first."""
        return self.get(f"/images/{image}/history")

    def picture(self, image: int, what: str = "picture", **query: Any) -> bytes:
        """A JPEG (`what`: thumbnail, picture, frame, slice), or the `original` file."""
        return self.get(f"/images/{image}/{what}", **query)

    # ---- Tagging.

    def answer(self, dataset: int, items: Sequence[Mapping[str, Any]], **options: Any) -> dict:
        """Tags, flags and comments images: see `POST /api/datasets/{dataset}/answers`."""
        body = [dict(item) for item in items]
        return self.write("POST", f"/datasets/{dataset}/answers", items=body, **options)

    def tag(self, dataset: int, image: int, *classes: int, **options: Any) -> dict[str, Any]:
        """Tags an image with classes."""
        return self.answer(
            dataset, [{"image": image, "add": {str(c): {} for c in classes}}], **options
        )

    def bulk(
        self,
        dataset: int,
        action: Mapping[str, Any],
        ids: Sequence[int] | None = None,
        request_id: str | None = None,
        **filters: Any,
    ) -> dict[str, Any]:
        """Acts on the images `ids`, or on all that the filters select."""
        select = {"filter": filters} if ids is None else {"ids": list(ids)}
        body = {"select": select, "action": dict(action)}
        body |= {"request_id": request_id} if request_id else {}
        return self.write("POST", f"/datasets/{dataset}/bulk", **body)

    def undo(self, dataset: int, **options: Any) -> dict[str, Any]:
        """Undoes your last action."""
        return self.write("POST", "/undo", dataset=dataset, **options)

    def redo(self, dataset: int, **options: Any) -> dict[str, Any]:
        """Redoes what you undid last."""
        return self.write("POST", "/redo", dataset=dataset, **options)

    def changes(self, dataset: int, **query: Any) -> list[dict[str, Any]]:
        """The actions in a data set, newest first."""
        return self.get(f"/datasets/{dataset}/history", **query)

    def agreement(self, dataset: int) -> dict[str, Any]:
        """Cohen's kappa of each pair of taggers."""
        return self.get(f"/datasets/{dataset}/agreement")

    def events(self, dataset: int, last: int | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields (kind, data) of what changes, from now on or from the change `last` on."""
        query = _query({"dataset": dataset, "last": last})
        with self._http.stream("GET", "/api/events", params=query, timeout=None) as response:
            kind = "message"
            for line in response.iter_lines():
                key, _, value = line.partition(": ")
                if key == "event":
                    kind = value
                elif key == "data":
                    yield kind, json.loads(value)

    # ---- Upload.

    def upload(
        self,
        dataset: int,
        paths: Iterable[str | pathlib.Path],
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Uploads files, and all files in folders, by their relative names.

        Args:
          dataset: where they go.
          paths: files and folders. Zips are unpacked.
          progress: called with the numbers of files that are done and of all.

        Returns:
          `{"added", "duplicates", "unreadable"}`.
        """
        files = list(_find(paths))
        total: dict[str, Any] = {"added": [], "duplicates": [], "unreadable": []}
        batch: list[tuple[pathlib.Path, str]] = []
        done = size = 0

        def add(result: dict[str, Any], count: int) -> None:
            nonlocal done
            for key in total:
                total[key] += result[key]
            done += count
            if progress is not None:
                progress(done, len(files))

        for path, name in files:
            length = path.stat().st_size
            if length > SMALL or path.suffix.lower() == ".zip":
                add(self._upload_parts(dataset, path, name, length), 1)
                continue
            if batch and (len(batch) == _TOGETHER or size + length > SMALL):
                add(self._upload_together(dataset, batch), len(batch))
                batch, size = [], 0
            batch.append((path, name))
            size += length
        if batch:
            add(self._upload_together(dataset, batch), len(batch))
        return total

    def register(self, dataset: int, paths: Sequence[str], **options: Any) -> dict[str, Any]:
        """Adds files of the server without copying them; below its `--roots`."""
        return self.write("POST", f"/datasets/{dataset}/register", paths=list(paths), **options)

    def _upload_together(self, dataset: int, batch: list[tuple[pathlib.Path, str]]) -> Any:
        files = [("files", (name, path.read_bytes(), _type(path))) for path, name in batch]
        data = {"request_id": str(uuid.uuid4())}
        return self.request("POST", f"/datasets/{dataset}/upload", files=files, data=data)

    def _upload_parts(self, dataset: int, path: pathlib.Path, name: str, size: int) -> Any:
        begun = self.write("POST", "/uploads", dataset=dataset, name=name, size=size)
        done = begun["received"]
        with open(path, "rb") as file:
            while done < size:
                file.seek(done)
                part = file.read(_PART)
                query = {"offset": done}
                url = f"/uploads/{begun['id']}"
                try:
                    done = self.request("PUT", url, params=query, content=part)["received"]
                except StudioError as e:
                    if e.status != 409:
                        raise
                    done = self.get(url)["received"]
        return self.write("POST", f"/uploads/{begun['id']}/finish")


def _find(paths: Iterable[str | pathlib.Path]) -> Iterator[tuple[pathlib.Path, str]]:
    """(path, name) of files; those in a folder by their path from that folder's parent."""
    for given in map(pathlib.Path, paths):
        path = given.expanduser().resolve()
        if path.is_file():
            yield path, path.name
        elif path.is_dir():
            for file in sorted(path.rglob("*")):
                inner = file.relative_to(path)
                if file.is_file() and not any(part.startswith(".") for part in inner.parts):
                    yield file, f"{path.name}/{inner.as_posix()}"
        else:
            raise ConfigError(f"{given}: there is no such file or directory")


def _type(path: pathlib.Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _query(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _details(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"error": f"HTTP status {response.status_code}"}
