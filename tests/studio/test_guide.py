"""The stories of docs/studio.md, run from the page's own text: `pytest -m slow tests/studio`."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import REPO
from tests.studio.learning.server import read_images

pytestmark = pytest.mark.slow

PAGE = (REPO / "docs" / "studio.md").read_text()


def _blocks(heading: str, language: str) -> str:
    """All code of a section."""
    section = re.split(r"^## ", PAGE.split(f"## {heading}\n")[1], flags=re.M)[0]
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", section, re.S))


@pytest.fixture
def folder(tmp_path, shared_data):
    """A directory with `photos/CLASS` and `new`."""
    for name, data in read_images(shared_data, tmp_path / "cifar", 14):
        number = int(pathlib.Path(name).stem)
        file = tmp_path / (f"photos/{name}" if number < 12 else f"new/{name.replace('/', '-')}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return tmp_path


@contextlib.contextmanager
def _serve(folder: pathlib.Path):
    """`imgcls studio` as a process; gives its address."""
    command = [sys.executable, "-m", "imgcls.studio", "--home=home", "--port=0", "--no_browser"]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1].rstrip("/")
        finally:
            process.terminate()


def test_the_story_from_python(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with _serve(folder) as url:
        code = _blocks("From Python", "python").replace("http://127.0.0.1:8765", url)
        names: dict = {}
        exec(compile(code, "docs/studio.md", "exec"), names)
        client, dataset, copy = names["client"], names["dataset"], names["copy"]
        counts = [client.dataset(d) for d in (dataset, copy)]
        assert counts[0]["images"] == 42 and counts[0]["by_status"]["done"] >= 36
        assert counts[1]["images"] == counts[1]["by_status"]["done"]
        assert counts[1]["images"] == counts[0]["by_status"]["done"]
        assert sorted(counts[0]["by_class"].values()) >= [12, 12, 12]
        splits = [
            {i["sha256"]: i["split"] for i in map(client.image, client.ids(d))}
            for d in (dataset, copy)
        ]
        assert splits[1].items() <= splits[0].items()
        assert "Confusion" in (folder / "report.html").read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_story_by_curl(folder):
    with _serve(folder) as url:
        script = "set -e\n" + _blocks("By HTTP", "bash").replace("http://127.0.0.1:8765", url)
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, (done.stdout[-2000:], done.stderr)
        assert "Confusion" in (folder / "report.html").read_text()
        assert '"images":36,"added":36,"tagged":36,"classes":3' in done.stdout


def test_the_commands(folder):
    with _serve(folder) as url:
        lines = _blocks("Versions, export and import", "bash").splitlines()
        for line in lines:
            line = line.replace("epochs=10", "epochs=1 width=8").replace("imgcls ", "", 1)
            if line.startswith("studio upload"):
                pass
            elif "train" in line:
                _tag_by_folder(url)
            command = f"{sys.executable} -m imgcls {line} --url={url}"
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(REPO)},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)


def _tag_by_folder(url: str) -> None:
    from imgcls.studio.client import Client

    with Client(url) as client:
        names = ["airplane", "cat", "truck"]
        for name, number in zip(names, client.create_classes(1, names), strict=True):
            client.bulk(1, {"tag": [number]}, folder=[f"photos/{name}"])
