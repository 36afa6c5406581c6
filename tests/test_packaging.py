"""Requirements files, the extras of pyproject.toml and the pinned versions agree."""

import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPO

FILES = sorted(path.name for path in REPO.glob("requirements*.txt"))
# Torch for CPUs comes from an index of its own, so nothing is pinned for it.
UNPINNED = {"requirements-parity.txt"}


def requirements(name: str) -> list[Requirement]:
    lines = [line.partition("#")[0].strip() for line in (REPO / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line]


def environment(python: str) -> dict[str, str]:
    """Returns the markers of 64-bit Linux with a version of Python."""
    linux = {"sys_platform": "linux", "os_name": "posix", "platform_machine": "x86_64"}
    versions = {"python_version": python, "python_full_version": f"{python}.99"}
    return {**default_environment(), **linux, **versions}


def unmet(wanted: list[Requirement], pins: list[Requirement], python: str) -> list[str]:
    """Returns the requirements that the pins do not meet with exactly one version."""
    env = environment(python)
    versions: dict[str, list[str]] = {}
    for pin in pins:
        if pin.marker is None or pin.marker.evaluate(env):
            versions.setdefault(canonicalize_name(pin.name), []).append(
                str(pin.specifier).removeprefix("==")
            )
    out = []
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate(env):
            found = versions.get(canonicalize_name(requirement.name), [])
            if len(found) != 1 or found[0] not in requirement.specifier:
                out.append(f"{requirement}: {found}")
    return out


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("name", [name for name in FILES if name not in UNPINNED])
def test_constraints_meet_the_requirements(name, python):
    """If this fails, write constraints.txt again with the command in CONTRIBUTING.md."""
    assert unmet(requirements(name), requirements("constraints.txt"), python) == []


def test_unmet_requirements_are_named():
    wanted = [Requirement("jax>=0.10,<0.13"), Requirement("einops>=0.8"), Requirement("tqdm")]
    pins = [
        Requirement("jax==0.10.2; python_full_version < '3.12'"),
        Requirement("jax==0.13.0; python_full_version >= '3.12'"),
        Requirement("tqdm==4.67"),
    ]
    assert unmet(wanted, pins, "3.11") == ["einops>=0.8: []"]
    assert unmet(wanted, pins, "3.12") == ["jax<0.13,>=0.10: ['0.13.0']", "einops>=0.8: []"]


def test_constraints_are_exact_and_come_from_the_files():
    text = (REPO / "constraints.txt").read_text()
    assert set(re.findall(r"requirements\S*\.txt", text)) == set(FILES) - UNPINNED
    for pin in requirements("constraints.txt"):
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)) and not pin.extras, pin


def test_extras_are_the_requirements_files():
    dynamic = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
    extras = dynamic["optional-dependencies"]
    assert dynamic["dependencies"] == {"file": ["requirements.txt"]}
    for name, value in extras.items():
        assert value == {"file": [f"requirements-{name}.txt"]}
    assert {f"requirements-{name}.txt" for name in extras} | {"requirements.txt"} == set(FILES)
    # setuptools refuses options such as `-r` in these files.
    for name in FILES:
        lines = (REPO / name).read_text().splitlines()
        assert [line for line in lines if line.startswith("-")] == []


def test_version_is_the_same_everywhere():
    version = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+)", (REPO / "CHANGELOG.md").read_text(), re.M)
    assert newest and version == citation["version"] == newest[1]
    assert citation["license"] == "Apache-2.0"


def test_workflow_runs_the_checks_on_the_pinned_versions():
    workflow = yaml.safe_load((REPO / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["ci"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]
    for script in ("run", "lowest"):
        subprocess.run(["bash", "-n", REPO / ".ci" / script], check=True)
    assert "bash .ci/lowest" in (REPO / ".ci" / "run").read_text()


def test_classifiers_are_the_tested_versions():
    workflow = yaml.safe_load((REPO / ".github" / "workflows" / "ci.yml").read_text())
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    named = [name.rpartition(" ")[2] for name in project["classifiers"] if "Python :: 3." in name]
    assert named == workflow["jobs"]["ci"]["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={named[0]}"


def test_hooks_are_tools_of_the_dev_requirements():
    hooks = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    tools = {hook["entry"].split()[0] for hook in hooks}
    assert tools == {"ruff", "pyright"}
    assert tools <= {requirement.name for requirement in requirements("requirements-dev.txt")}
