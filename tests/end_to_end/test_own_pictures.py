"""The README's four commands for pictures of one's own, on class folders of real ones."""

import csv
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time
import zipfile

import pytest

from tests.conftest import REPO, command_env


def readme_commands(marker: str) -> list[str]:
    """The lines between a marker of the README and its end, without the fence."""
    text = (REPO / "README.md").read_text()
    block = re.search(rf"<!-- {marker} -->\n```bash\n(.*?)```\n<!-- end -->", text, re.DOTALL)[1]
    return block.replace("\\\n", " ").splitlines()


def unpack_cifar10(archive: pathlib.Path, root: pathlib.Path, per_class: int) -> None:
    """Class folders with the first pictures of every class."""
    with zipfile.ZipFile(archive) as file:
        counts: dict[str, int] = {}
        for name in sorted(file.namelist()):
            parts = name.split("/")
            if not name.endswith(".jpg") or parts[-3] != "train":
                continue
            counts[parts[-2]] = counts.get(parts[-2], 0) + 1
            if counts[parts[-2]] <= per_class:
                folder = root / parts[-2]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / parts[-1]).write_bytes(file.read(name))


@pytest.mark.slow
def test_four_commands(shared_data, cache, tmp_path):
    pictures, new = tmp_path / "pictures", tmp_path / "new"
    unpack_cifar10(shared_data / "cifar10_jpg.zip", pictures, 200)
    new.mkdir()
    for number, file in enumerate(sorted(pictures.glob("*/*.jpg"))[::40]):
        (new / f"{number}.jpg").write_bytes(file.read_bytes())
    commands = readme_commands("own")
    assert [re.search(r"imgcls\.(\w+)", c)[1] for c in commands] == [
        "audit",
        "main",
        "report",
        "predict",
    ]
    for text in commands:
        text = text.replace("/my/pictures", str(pictures)).replace("/my/new", str(new))
        arguments = shlex.split(text.replace("/tmp/imgcls", str(tmp_path)))
        assert arguments[0] == "python"
        start = time.monotonic()
        environment = command_env(cache)
        del environment["XLA_FLAGS"]
        done = subprocess.run(
            [sys.executable, *arguments[1:]],
            cwd=REPO,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        print(f"{time.monotonic() - start:.0f} s: {' '.join(arguments)}")
        # An audit with findings says so by its exit code.
        allowed = (0, 1) if "imgcls.audit" in arguments else (0,)
        assert done.returncode in allowed, done.stderr

    assert json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert os.path.getsize(tmp_path / "audit" / "audit.html") > 10_000
    assert os.path.getsize(tmp_path / "mine" / "report" / "report.html") > 100_000
    with open(tmp_path / "answers.csv", newline="") as file:
        answers = list(csv.DictReader(file))
    assert {row["path"] for row in answers} == {str(file) for file in new.iterdir()}
    assert {row["labels"] for row in answers} <= {folder.name for folder in pictures.iterdir()}
