"""Times the studio with 50,000 images: `python bench/studio.py --home=/tmp/studio50000`.

Makes a home of CIFAR-10's pictures (../shared/data/cifar10_jpg.zip) unless it is there, serves it,
and prints the time of each request in milliseconds and the memory of the server.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time
import uuid
import zipfile

import httpx

from imgcls.studio.home import Home
from imgcls.studio.pictures.ingest import BATCH, Ingest, Item
from imgcls.studio.store import classes, datasets
from imgcls.studio.store.connect import Database
from imgcls.studio.store.users import People

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, help="the home; it is made if there is none")
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data/cifar10_jpg.zip"))
    parser.add_argument("--images", type=int, default=50_000)
    args = parser.parse_args()
    results = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "images": args.images}
    if not pathlib.Path(args.home, "studio.sqlite").exists():
        results["upload, images/s"] = round(make(args.home, args.data, args.images))
    results |= measure(args.home)
    print(json.dumps(results, indent=1))


def make(directory: str, data: str, count: int) -> float:
    """Makes the home; returns images per second."""
    home = Home(directory)
    database = Database(home.database_url)
    owner = People(database).local()
    assert owner is not None
    dataset = database.write(datasets.create, owner, "dataset", name="CIFAR-10")["id"]
    wanted = [{"name": name} for name in NAMES]
    database.write(classes.create, owner, dataset, "classes", wanted)
    ingest = Ingest(home, database)
    start = time.time()
    with zipfile.ZipFile(data) as archive:
        names = [name for name in archive.namelist() if "/train/" in name and name.endswith(".jpg")]
        for first in range(0, count, BATCH):
            items = []
            for name in names[first : min(first + BATCH, count)]:
                path = home.uploads / str(uuid.uuid4())
                path.write_bytes(archive.read(name))
                items.append(Item(path, pathlib.Path(name).name, str(pathlib.Path(name).parent)))
            ingest.run(owner, dataset, items)
            print(f"{first + len(items):,} images", end="\r", file=sys.stderr)
    database.close()
    return count / (time.time() - start)


def measure(directory: str) -> dict[str, float]:
    """Serves the home and times requests."""
    command = [sys.executable, "-m", "imgcls.studio", f"--home={directory}", "--port=0"]
    server = subprocess.Popen(
        [*command, "--no_browser"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert server.stdout is not None
    try:
        match = re.search(r"http://\S+", server.stdout.readline())
        assert match is not None
        with httpx.Client(base_url=match[0], timeout=120) as client:
            return time_requests(client) | {"server, MB": memory(server.pid)}
    finally:
        server.terminate()
        server.wait()


def time_requests(client: httpx.Client) -> dict[str, float]:
    """Milliseconds of each request: the slowest of five for reads."""
    times = {}

    def get(what: str, path: str) -> httpx.Response:
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            response = client.get(path).raise_for_status()
            taken.append(time.perf_counter() - start)
        times[what] = round(1000 * max(taken), 1)
        return response

    def post(what: str, path: str, **body) -> dict:
        start = time.perf_counter()
        response = client.post(path, json={"request_id": str(uuid.uuid4()), **body})
        times[what] = round(1000 * (time.perf_counter() - start), 1)
        return response.raise_for_status().json()

    get("ids of all", "/api/datasets/1/ids")
    bulk = {"select": {"filter": {}}, "action": {"tag": [4]}}
    done = post("bulk tag of all", "/api/datasets/1/bulk", **bulk)
    assert done["changed"] + done["skipped"] >= 1
    post("its undo", "/api/undo", dataset=1)
    post("its redo", "/api/redo", dataset=1)
    get("data set with counts", "/api/datasets/1")
    for query in (
        *("class=4", "class=1", "untagged=1", "status=done", "split=test", "text=123"),
        *("text=zebra&status=new", "near_duplicates=1", "disagrees=1", "disputed=1"),
        *("flag=none", "tagged_by=1", "sort=random", "sort=name", "confidence_min=0.9"),
        "folder=cifar10/train/cat&class=4&split=train&sort=-time",
    ):
        get(f"filter {query}", f"/api/datasets/1/ids?{query}")
    all_ids = client.get("/api/datasets/1/ids").json()["ids"]
    start = time.perf_counter()
    client.post("/api/datasets/1/cells", json={"ids": all_ids[:200]}).raise_for_status()
    times["200 cells"] = round(1000 * (time.perf_counter() - start), 1)
    post("one tag", "/api/datasets/1/answers", items=[{"image": all_ids[7], "add": {"3": {}}}])
    action = {"approve": True}
    post("bulk approval of all", "/api/datasets/1/bulk", select={"ids": all_ids}, action=action)
    post("its undo, too", "/api/undo", dataset=1)
    get("a thumbnail", f"/api/images/{all_ids[11]}/thumbnail")
    get("agreement", "/api/datasets/1/agreement")
    post("back to untagged", "/api/undo", dataset=1)
    return times


def memory(pid: int) -> int:
    """The largest resident memory of a process so far, in MB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) // 1024


if __name__ == "__main__":
    main()
