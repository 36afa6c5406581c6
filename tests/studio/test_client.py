"""The Python client and the commands against a real server."""

import hashlib
import io
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from imgcls.studio.client import Client, StudioError
from tests.conftest import REPO


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The URL of a studio, and its home."""
    home = tmp_path_factory.mktemp("studio") / "home"
    command = [sys.executable, "-m", "imgcls.studio", f"--home={home}", "--port=0", "--no_browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPO) as process:
        assert process.stdout is not None
        match = re.search(r"http://\S+", process.stdout.readline())
        assert match is not None
        yield match[0], home
        process.terminate()
        assert process.wait(20) in (0, -signal.SIGTERM)


@pytest.fixture
def client(server):
    with Client(server[0]) as client:
        yield client


@pytest.fixture
def pictures(tmp_path):
    """A folder of 12 pictures, a copy, a smaller version of the first, and a text."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for n in range(12):
        (folder / f"f{n % 2}").mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        image = coarse.resize((96, 96), Image.Resampling.BICUBIC)
        image.save(folder / f"f{n % 2}" / f"{n}.png")
        if n == 0:
            image.resize((80, 80)).save(folder / "smaller.jpg", quality=95)
    (folder / "copy.png").write_bytes((folder / "f0" / "2.png").read_bytes())
    (folder / "notes.png").write_text("<svg onload=alert(1)>")
    return folder


def test_upload_tag_look_and_undo(client, server, pictures):
    dataset = client.create_dataset("story", kind="multi")
    cat, dog = client.create_classes(
        dataset,
        [
            "cat",
            {
                "name": "dog",
                "attributes": [{"name": "size", "kind": "choice", "options": ["s", "l"]}],
            },
        ],
    )
    result = client.upload(dataset, [pictures])
    assert len(result["added"]) == 13
    assert [entry["same_as"] for entry in result["duplicates"]] == ["copy.png"]
    assert [entry["name"] for entry in result["unreadable"]] == ["photos/notes.png"]
    about = client.dataset(dataset)
    assert about["images"] == about["untagged"] == 13
    # The same picture at another size is a near duplicate, and in the same split.
    near = client.cells(dataset, client.ids(dataset, near_duplicates=True))
    assert {cell["name"] for cell in near} == {"0.png", "smaller.jpg"}
    assert len({cell["cluster"] for cell in near}) == len({cell["split"] for cell in near}) == 1
    # Originals are kept as they are, thumbnails are made anew.
    image = near[0]["id"]
    original = client.picture(image, "original")
    assert hashlib.sha256(original).hexdigest() == client.image(image)["sha256"]
    assert Image.open(io.BytesIO(client.picture(image, "thumbnail", size=64))).size == (64, 64)

    item = {"image": image, "add": {str(dog): {"attributes": {"a1": "l"}, "text": "asleep"}}}
    cell = client.answer(dataset, [item])["images"][0]
    assert cell["labels"] == [dog] and cell["status"] == "done"
    assert cell["mine"]["tags"] == {str(dog): {"attributes": {"a1": "l"}, "text": "asleep"}}
    assert client.ids(dataset, text="SLEEP") == [image]
    with pytest.raises(StudioError, match="write one of"):
        client.answer(dataset, [{"image": image, "add": {str(dog): {"attributes": {"a1": "x"}}}}])
    done = client.bulk(dataset, {"tag": [cat]}, untagged=True)
    assert done["changed"] == 12
    assert client.undo(dataset)["changed"] == 12 and client.dataset(dataset)["untagged"] == 12
    assert client.redo(dataset)["changed"] == 12
    assert len(client.ids(dataset, **{"class": [cat, dog]})) == 13
    said = [entry["kind"] for entry in client.history(image)]
    assert said == ["answer", "upload"]
    # Delete a class, then bring it back with attributes and text.
    assert client.effect(dog)["images"] == 1
    client.delete_class(dog)
    assert client.cells(dataset, [image])[0]["labels"] == []
    client.undo(dataset)
    assert client.cells(dataset, [image])[0]["mine"] == cell["mine"]
    check = [sys.executable, "-m", "imgcls.studio", "check", f"--home={server[1]}", "--files"]
    done = subprocess.run(check, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0 and "no problems" in done.stdout, done.stdout + done.stderr


def test_a_repeated_request_changes_nothing(client, pictures):
    dataset = client.create_dataset("repeat")
    (cat,) = client.create_classes(dataset, ["cat"])
    ids = client.upload(dataset, [pictures / "f0"])["added"]
    first = client.tag(dataset, ids[0], cat, request_id="one")
    assert client.tag(dataset, ids[0], cat, request_id="one") == first
    assert len(client.history(ids[0])) == 2


def test_a_stale_answer_is_refused_with_what_changed(client, pictures):
    dataset = client.create_dataset("stale")
    cat, dog = client.create_classes(dataset, ["cat", "dog"])
    ids = client.upload(dataset, [pictures / "f0"])["added"]
    seen = client.cells(dataset, ids)
    client.tag(dataset, ids[0], cat)
    items = [{"image": c["id"], "revision": c["revision"], "add": {str(dog): {}}} for c in seen]
    with pytest.raises(StudioError) as refused:
        client.answer(dataset, items)
    (stale,) = refused.value.details["stale"]
    assert refused.value.status == 409 and stale["image"] == ids[0]
    assert stale["now"]["labels"] == [cat] and len(stale["changes"]) == 1
    assert client.ids(dataset, **{"class": dog}) == []  # Nothing of it was written.
    client.bulk(dataset, {"approve": True}, ids=ids[:1])
    with pytest.raises(StudioError, match="is reviewed"):
        client.tag(dataset, ids[0], dog)
    client.bulk(dataset, {"reopen": True}, ids=ids[:1])
    client.tag(dataset, ids[0], dog)


def test_events_tell_what_changes_and_what_was_missed(client, server, pictures):
    dataset = client.create_dataset("events")
    (cat,) = client.create_classes(dataset, ["cat"])
    ids = client.upload(dataset, [pictures / "f0"])["added"]
    since = client.dataset(dataset)["seq"]
    client.tag(dataset, ids[0], cat)
    got, started = [], threading.Event()

    def listen():
        with Client(server[0]) as other:
            for kind, data in other.events(dataset, last=since):
                got.append((kind, data["images"]))
                started.set()
                if len(got) == 2:
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert started.wait(10)
    client.bulk(dataset, {"split": "test"}, ids=ids[1:3])
    client.bulk(dataset, {"split": "train"}, ids=ids[1:3])
    thread.join(10)
    assert (
        got[0] == ("change", ids[:1]) and got[1][0] == "change" and set(got[1][1]) <= set(ids[1:3])
    )


def test_upload_by_command(server, pictures):
    command = [sys.executable, "-m", "imgcls.studio", "upload", str(pictures), f"--url={server[0]}"]
    done = subprocess.run(
        [*command, "--dataset=by command"], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "photos/notes.png: not added" in done.stdout
    assert done.stdout.splitlines()[-1] == "13 added, 1 duplicates, 1 unreadable"


def test_no_server_is_one_line():
    command = [sys.executable, "-m", "imgcls.studio", "upload", ".", "--url=http://127.0.0.1:9"]
    done = subprocess.run([*command, "--dataset=x"], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 2 and "is the studio running?" in done.stderr
    assert "Traceback" not in done.stderr
