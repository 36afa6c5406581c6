"""The images' files: what they copy is there, and nothing but that is sent to the builder."""

import fnmatch
import json
import re
import shlex

import dockerfile_parse
import pytest

from tests.conftest import REPO

FOLDER = REPO / "launch" / "docker"
FILES = {
    "cpu": ["requirements.txt"],
    "cuda": ["requirements.txt", "requirements-cuda.txt"],
    "tpu": ["requirements.txt", "requirements-tpu.txt"],
}


@pytest.fixture(params=list(FILES))
def device(request):
    return request.param


@pytest.fixture
def lines(device, tmp_path) -> list[tuple[str, str]]:
    """Instructions and what follows them."""
    # The parser writes its cache beside a file, so it gets the text.
    parser = dockerfile_parse.DockerfileParser(fileobj=open(tmp_path / "Dockerfile", "w+b"))
    parser.content = (FOLDER / f"Dockerfile.{device}").read_text()
    return [
        (x["instruction"], x["value"]) for x in parser.structure if x["instruction"] != "COMMENT"
    ]


def ignored(path: str) -> bool:
    """By .dockerignore: the last line that fits a path or a folder above it decides."""
    out = False
    for line in (REPO / ".dockerignore").read_text().splitlines():
        pattern = line.strip().lstrip("!").rstrip("/")
        if not pattern or pattern.startswith("#"):
            continue
        parents = [path.rsplit("/", n)[0] for n in range(path.count("/") + 1)]
        names = path.split("/") if pattern.startswith("**/") else parents
        if any(fnmatch.fnmatch(name, pattern.removeprefix("**/")) for name in names):
            out = not line.startswith("!")
    return out


def test_instructions(lines, device):
    names = [name for name, _ in lines]
    assert names[0] == "FROM" and "slim" in lines[0][1] and ":latest" not in lines[0][1]
    assert set(names) <= {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT"}
    (user,) = [value for name, value in lines if name == "USER"]
    assert user.split(":")[0] not in ("root", "0")
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    (install,) = [value for name, value in lines if name == "RUN" and "pip install" in value]
    options = [option for file in FILES[device] for option in ("-r", file)]
    assert shlex.split(install) == ["pip", "install", *options]


def test_requirements_are_those_of_the_readme():
    named = set(re.findall(r"`-r (requirements-\w+\.txt)`", (REPO / "README.md").read_text()))
    assert named == {file for files in FILES.values() for file in files} - {"requirements.txt"}


def test_copies_are_there_and_sent(lines):
    for value in (value for name, value in lines if name == "COPY"):
        *sources, _ = shlex.split(value)
        for source in sources:
            path = REPO / source
            assert path.exists(), source
            files = [path] if path.is_file() else list(path.glob("*.py"))
            assert files and not any(ignored(str(f.relative_to(REPO))) for f in files), source


def test_nothing_else_is_sent():
    for path in (".git/config", "README.md", "runs/1/config.json", "secret.env", "tests/make.py"):
        assert ignored(path), path
    assert ignored("imgcls/__pycache__/main.cpython-312.pyc")
    assert not ignored("imgcls/report/templates/report.html") and not ignored(
        "imgcls/data/decode/image.py"
    )


def test_entrypoint(lines):
    (entry,) = [json.loads(value) for name, value in lines if name == "ENTRYPOINT"]
    assert entry == ["launch/until_done.sh", "python", "-m", "imgcls.main"]


def test_build(launch, programs, device):
    programs.add("docker")
    done = launch("docker/build.sh", "--dry_run", device, **programs.env)
    assert done.returncode == 0 and programs.calls == []
    assert launch("docker/build.sh", device, "reg/a:1", **programs.env).returncode == 0
    file = f"--file={FOLDER}/Dockerfile.{device}"
    assert programs.calls == [["docker", "build", file, "--tag=reg/a:1", str(REPO)]]
    assert shlex.split(done.stdout) == [
        "docker",
        "build",
        file,
        f"--tag=imgcls:{device}",
        str(REPO),
    ]


def test_mistakes(launch):
    for args in ((), ("rocm",)):
        done = launch("docker/build.sh", *args)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
