"""The launchers, started as users do, with stand-ins for programs of clusters first on the PATH."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import REPO

LAUNCH = REPO / "launch"

# Notes how it was called, and answers what the test has put into files beside it.
RECORDER = """#!/usr/bin/env bash
here=$(dirname "$0")
printf '%s\\0' "$(basename "$0")" "$@" >> "$here/calls"
echo >> "$here/calls"
[[ -f $here/stdin ]] && cat > "$here/stdin"
answer=$here/answers/$(($(ls "$here/answers" 2> /dev/null | sort -n | head -n 1)))
if [[ -f $answer ]]; then
  source "$answer"
fi
"""


class Programs:
    """A folder of stand-ins. `calls` lists what was typed; `answer` scripts the next answers."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        (folder / "answers").mkdir(parents=True)

    def add(self, name: str, text: str = RECORDER) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def answer(self, *scripts: str) -> None:
        """The next calls run these lines of bash, one each; later ones end with 0."""
        for i, script in enumerate(scripts, start=1):
            path = self.folder / "answers" / str(i)
            path.write_text(f'rm -f "{path}"\n{script}\n')

    @property
    def calls(self) -> list[list[str]]:
        path = self.folder / "calls"
        lines = path.read_text().split("\0\n") if path.exists() else []
        return [line.split("\0") for line in lines if line]

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}:{os.environ['PATH']}"}


@pytest.fixture
def programs(tmp_path) -> Programs:
    return Programs(tmp_path / "programs")


@pytest.fixture
def launch():
    """Runs `launch/NAME ARGS...`; returns what it printed."""

    def run(name: str, *args: str, timeout: int = 120, cwd=REPO, **env: str):
        return subprocess.run(
            [LAUNCH / name, *args],
            env=os.environ | {"PYTHON": sys.executable, "IMGCLS_PAUSE": "0"} | env,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
