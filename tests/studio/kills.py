"""A server that is killed amid writes, clients that log what was acknowledged, and the comparison.

Each tagger tags images of its own one after the other, with tags that it draws; it sends a request
again, with the same request id, until it is answered. So after the last kill each image has exactly
what was said last, whether the answer to it was lost or not.
"""

import contextlib
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from typing import Any

import httpx
import sqlalchemy as sa

from imgcls.studio.home import Home
from imgcls.studio.store.check import check
from imgcls.studio.store.connect import Database
from imgcls.studio.store.schema import answer, change
from imgcls.studio.store.users import People
from tests.studio import homes

IMAGES = 60
TAGGERS = 3
CLASSES = ["a", "b", "c", "d"]


class Server:
    """`imgcls studio` in a process of its own, at one port."""

    def __init__(self, home: Home, database_url: str = ""):
        self.home, self._port = home, 0
        self._line = [sys.executable, "-m", "imgcls.studio", f"--home={home.root}"]
        self._line += ["--no_browser", *([f"--database={database_url}"] if database_url else [])]
        self.start()

    def start(self) -> None:
        """Starts it and waits for its address."""
        self._process = subprocess.Popen(
            [*self._line, f"--port={self._port}"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "http://" in line:
                self.url = line.split()[-1].rstrip("/")
                self._port = int(self.url.rpartition(":")[2])
                return
        raise AssertionError("the server has ended")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal and waits for the end."""
        self._process.send_signal(number)
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Tagger(threading.Thread):
    """Tags its images until it is stopped.

    Attributes:
      said: `{image: set of class ids}`, what was acknowledged last.
      requests: ids of all acknowledged requests.
    """

    def __init__(self, url: str, images: list[int], classes: list[int], seed: int):
        super().__init__(daemon=True)
        self._url, self._images, self._classes = url, images, classes
        self._draw = random.Random(seed)
        self.said: dict[int, set[int]] = {image: set() for image in images}
        self.requests: set[str] = set()
        self.problems: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http:
            while not self.stop.is_set():
                chosen = self._draw.sample(self._images, self._draw.choice((1, 1, 3)))
                wanted = {c for c in self._classes if self._draw.random() < 0.5}
                items = [
                    {
                        "image": image,
                        "add": {str(c): {} for c in wanted - self.said[image]},
                        "remove": sorted(self.said[image] - wanted),
                    }
                    for image in chosen
                ]
                self._send(http, {"request_id": str(uuid.uuid4()), "items": items})
                self.said.update({image: set(wanted) for image in chosen})

    def _send(self, http: httpx.Client, body: dict[str, Any]) -> None:
        while True:
            try:
                result = http.post("/api/datasets/1/answers", json=body)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if result.status_code == 200:
                self.requests.add(body["request_id"])
                return
            if result.status_code != 429:
                self.problems.append(result.text)
                return
            time.sleep(0.1)


def make_home(path: pathlib.Path, database_url: str = "") -> tuple[Home, list[int], list[int]]:
    """A home with a data set of many labels; returns it with ids of its images and classes."""
    home = Home(path, database_url)
    database = Database(home.database_url)
    try:
        local = People(database).local()
        assert local is not None
        dataset, classes = homes.add_dataset(database, local, CLASSES, kind="multi")
        images = homes.add_images(database, local, dataset, IMAGES)
    finally:
        database.close()
    return home, images, classes


def run(path: pathlib.Path, kills: int, database_url: str = "", seed: int = 0) -> dict[str, int]:
    """Kills a server `kills` times amid writes, and compares. Returns counts.

    Raises:
      AssertionError: a tag that was acknowledged is missing, or there is one that nobody set.
    """
    draw = random.Random(seed)
    home, images, classes = make_home(path, database_url)
    server = Server(home, database_url)
    parts = [images[number::TAGGERS] for number in range(TAGGERS)]
    taggers = [Tagger(server.url, part, classes, seed + n) for n, part in enumerate(parts)]
    for tagger in taggers:
        tagger.start()
    amid = 0
    for _ in range(kills):
        before = sum(len(tagger.requests) for tagger in taggers)
        time.sleep(draw.uniform(0.05, 0.6))
        server.kill()
        amid += sum(len(tagger.requests) for tagger in taggers) > before
        server.start()
    for tagger in taggers:
        tagger.stop.set()
    for tagger in taggers:
        tagger.join(60)
    server.kill(signal.SIGTERM)
    assert [tagger.problems for tagger in taggers] == [[]] * TAGGERS
    counts = _compare(home, taggers)
    return {**counts, "kills": kills, "kills_amid_writes": amid}


def _compare(home: Home, taggers: list[Tagger]) -> dict[str, int]:
    database = Database(home.database_url)
    with contextlib.closing(database), database.read() as connection:
        assert check(connection) == []
        rows = connection.execute(sa.select(answer.c.image_id, answer.c.tags)).all()
        query = sa.select(change.c.request_id).where(change.c.kind == "answer")
        stored = connection.execute(query).scalars().all()
    tags = {image: {int(c) for c in found} for image, found in rows}
    said = {image: classes for tagger in taggers for image, classes in tagger.said.items()}
    for image, classes in said.items():
        assert tags.pop(image, set()) == classes, f"image {image}"
    assert not tags, "tags that nobody set"
    acknowledged = set().union(*(tagger.requests for tagger in taggers))
    assert len(stored) == len(set(stored))
    assert set(stored) == acknowledged, "changes that nobody made, or that are lost"
    return {"requests": len(acknowledged), "tags": sum(map(len, said.values()))}


if __name__ == "__main__":  # python -m tests.studio.kills DIR KILLS [postgresql://...]
    directory, number, *url = sys.argv[1:]
    print(run(pathlib.Path(directory), int(number), *url))
