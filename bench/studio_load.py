"""Twenty people tag at once: `python bench/studio_load.py --home=/tmp/studio50000`.

Serves a copy of the database of a home that `bench/studio.py` has made. Each tagger sends five
decisions a second, two of them on the same images, and in the middle the owner tags all images at
once. Prints the latencies, and compares all that is stored with the own logs of the taggers.
"""

import argparse
import collections
import contextlib
import http.client
import json
import os
import pathlib
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import sqlalchemy as sa

from imgcls.studio.home import Home
from imgcls.studio.store import users
from imgcls.studio.store.check import check
from imgcls.studio.store.connect import Database
from imgcls.studio.store.schema import answer, change, image, klass

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Person:
    """A connection with a token; `times` has `(when, seconds)` of each decision."""

    def __init__(self, port: int, token: str):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.times: list[tuple[float, float]] = []
        self.requests: set[str] = set()
        self.said: dict[int, int] = {}

    def post(self, path: str, **body) -> dict:
        body["request_id"] = str(uuid.uuid4())
        start = time.time()
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {text.decode()}")
        self.times.append((start, time.time() - start))
        self.requests.add(body["request_id"])
        return json.loads(text)

    def tag(self, images: list[int], classes: list[int], rate: float, seconds: float, seed: int):
        """Tags images that it draws, at a rate; single labels: a tag replaces the one before."""
        draw = random.Random(seed)
        start = time.time() + draw.random() / rate
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, start + number / rate - time.time()))
            chosen, label = draw.choice(images), draw.choice(classes)
            items = [{"image": chosen, "add": {str(label): {}}}]
            self.post("/api/datasets/1/answers", items=items)
            self.said[chosen] = label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, help="a home that bench/studio.py has made")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--taggers", type=int, default=20)
    parser.add_argument("--rate", type=float, default=5, help="decisions a second of each")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy_database(pathlib.Path(args.home), pathlib.Path(folder))
        print(json.dumps(measure(Home(folder), args), indent=1))


def copy_database(home: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a database that may be in use."""
    with (
        contextlib.closing(sqlite3.connect(home / "studio.sqlite")) as source,
        contextlib.closing(sqlite3.connect(target / "studio.sqlite")) as copy,
    ):
        source.backup(copy)


def measure(home: Home, args: argparse.Namespace) -> dict:
    """Adds the users, serves the home, tags, and compares."""
    database = Database(home.database_url)
    names = ["owner", *(f"tagger {n}" for n in range(args.taggers))]
    roles = ["owner", *["tagger"] * args.taggers]
    added = [database.write(users.add_user, n, r) for n, r in zip(names, roles, strict=True)]
    with database.read() as connection:
        images = list(connection.execute(sa.select(image.c.id).order_by(image.c.id)).scalars())
        classes = list(connection.execute(sa.select(klass.c.id)).scalars())
        before = connection.execute(sa.select(sa.func.max(change.c.seq))).scalar_one()
    database.close()
    line = [sys.executable, "-m", "imgcls.studio", f"--home={home.root}", "--port=0"]
    server = subprocess.Popen([*line, "--no_browser"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().split()[-1].rstrip("/").rpartition(":")[2])
        people = [Person(port, token) for _, token in added]
        bulk = run(people, images, classes, args)
    finally:
        server.terminate()
        server.wait()
    ids = [user.id for user, _ in added]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "images": len(images),
        **latencies(people[1:], *bulk),
        **compare(home, people, ids, images, classes, before),
    }


def run(people: list[Person], images: list[int], classes: list[int], args) -> tuple[float, float]:
    """Lets all tag; returns when the bulk tag began and ended."""
    owner, *taggers = people
    parts = [images[n :: args.taggers] for n in range(args.taggers)]
    parts[1] = parts[0] = parts[0][:100]  # Two on the same images.
    threads = [
        threading.Thread(target=t.tag, args=(part, classes, args.rate, args.seconds, seed))
        for seed, (t, part) in enumerate(zip(taggers, parts, strict=True))
    ]
    for thread in threads:
        thread.start()
    time.sleep(args.seconds / 2)
    action = {"tag": [classes[3]]}
    start = time.time()
    result = owner.post("/api/datasets/1/bulk", select={"filter": {}}, action=action)
    end = time.time()
    assert result["changed"] == len(images), result
    for thread in threads:
        thread.join()
    return start, end


def latencies(taggers: list[Person], start: float, end: float) -> dict[str, float]:
    """Percentiles in milliseconds, of decisions that did not wait for the bulk tag and those
    that did."""
    outside, amid = [], []
    for when, taken in (one for tagger in taggers for one in tagger.times):
        (amid if when < end and when + taken > start else outside).append(1000 * taken)
    outside.sort()
    found = {f"p{p}, ms": round(outside[int(len(outside) * p / 100)], 1) for p in (50, 95, 99)}
    return {
        "decisions": len(outside) + len(amid),
        **found,
        "slowest, ms": round(outside[-1], 1),
        "bulk tag, ms": round(1000 * (end - start)),
        "slowest amid the bulk tag, ms": round(max(amid, default=0.0)),
    }


def compare(home: Home, people: list[Person], ids, images, classes, before: int) -> dict[str, int]:
    """Compares each person's log with what is stored.

    Raises:
      AssertionError: a tag is lost, doubled, or nobody's.
    """
    people[0].said = dict.fromkeys(images, classes[3])
    database = Database(home.database_url)
    stored: dict[int, dict[int, list[str]]] = collections.defaultdict(dict)
    with contextlib.closing(database), database.read() as connection:
        query = sa.select(answer.c.user_id, answer.c.image_id, answer.c.tags)
        for user, number, tags in connection.execute(query.where(answer.c.user_id.in_(ids))):
            stored[user][number] = list(tags)
        query = sa.select(change.c.request_id).where(change.c.seq > before)
        requests = connection.execute(query).scalars().all()
        problems = check(connection)
    for user, person in zip(ids, people, strict=True):
        assert stored[user] == {n: [str(label)] for n, label in person.said.items()}
    assert sorted(requests) == sorted(set().union(*(p.requests for p in people)))
    assert problems == [], problems[:3]
    return {"tags": sum(map(len, stored.values())), "lost": 0, "doubled": 0}


if __name__ == "__main__":
    main()
