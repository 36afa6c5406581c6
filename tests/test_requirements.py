"""Dependencies: imports of the package are declared, and what is declared is imported."""

import ast
import re
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import REPO

# Distributions whose modules have a different name.
MODULES = {
    "absl-py": "absl",
    "opencv-python-headless": "cv2",
    "orbax-checkpoint": "orbax",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "tensorboardx": "tensorboardX",
    "tensorflow-cpu": "tensorflow",
}
# Rooms that are installed as extras, and may import those at import time.
ROOMS = {
    "imgcls/studio/": "requirements-studio.txt",
    "imgcls/sweep/": "requirements-sweep.txt",
}
# Imported only where the user has installed them: not in any requirements file.
OPTIONAL = {"wandb"}
# Required without an import in the package, and why.
NOT_IMPORTED = {
    "flatbuffers": "jax.export imports it without declaring it",
    "importlib_resources": "tensorflow-datasets imports it without declaring it",
    "turbojpeg": "ships the libturbojpeg that imgcls.data.decode.turbojpeg loads with ctypes",
}


def third_party_imports(source: str) -> Iterator[tuple[str, bool]]:
    """Yields the top-level names of third-party imports, and whether they run at import time."""

    def visit(node: ast.AST, at_import: bool) -> Iterator[tuple[str, bool]]:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top != "imgcls" and top not in sys.stdlib_module_names:
                yield top, at_import
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_import = False
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_import)

    yield from visit(ast.parse(source), True)


def declared_modules(text: str) -> set[str]:
    """Returns the modules of the distributions that a requirements file lists."""
    found = set()
    for line in text.splitlines():
        if match := re.match(r"[A-Za-z0-9][\w.-]*", line):
            name = re.sub(r"[-_.]+", "-", match[0]).lower()
            found.add(MODULES.get(name, name.replace("-", "_")))
    return found


def undeclared_imports(
    sources: dict[str, str],
    required: set[str],
    extras: set[str],
    rooms: dict[str, set[str]] | None = None,
) -> dict[str, str]:
    """Returns `{module: first file}` of imports that no requirements file covers.

    Imports at import time must be in `required`, or in what `rooms` has for the file's folder;
    those inside functions may be in `extras`.
    """
    found = {}
    for name, source in sources.items():
        own = set().union(*(v for k, v in (rooms or {}).items() if name.startswith(k)))
        for module, at_import in third_party_imports(source):
            allowed = required | own if at_import else required | extras | OPTIONAL
            if module not in allowed:
                found.setdefault(module, name)
    return found


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    files = sorted((REPO / "imgcls").rglob("*.py"))
    return {str(file.relative_to(REPO)): file.read_text() for file in files}


@pytest.fixture(scope="module")
def required() -> set[str]:
    return declared_modules((REPO / "requirements.txt").read_text())


def test_imports_are_declared(sources, required):
    files = [f for f in REPO.glob("requirements-*.txt") if f.name != "requirements-dev.txt"]
    extras = set().union(*(declared_modules(file.read_text()) for file in files))
    rooms = {room: declared_modules((REPO / name).read_text()) for room, name in ROOMS.items()}
    assert undeclared_imports(sources, required, extras, rooms) == {}


def test_requirements_are_imported(sources, required):
    imported = {module for source in sources.values() for module, _ in third_party_imports(source)}
    assert required - imported == NOT_IMPORTED.keys()


def test_missing_requirements_are_found():
    source = (
        "import os, numpy.linalg\nfrom imgcls import core\nfrom . import here\n"
        "try:\n    import pandas as pd\nexcept ImportError:\n    pass\n"
        "class A:\n    def f(self):\n        from onnxruntime.quantization import q\n"
        "        import torch, wandb\n"
    )
    found = set(third_party_imports(source))
    assert found == {
        *(("numpy", True), ("pandas", True)),
        *(("onnxruntime", False), ("torch", False), ("wandb", False)),
    }
    required = declared_modules(
        "# numpy is a comment\n\nNumPy>=2.0,<3\nopencv-python-headless[x]\n"
    )
    assert required == {"numpy", "cv2"}
    sources = {"a.py": source, "b.py": "import pandas\nimport onnxruntime\n"}
    rooms = {"room/": {"pandas"}}
    assert undeclared_imports({"room/a.py": "import pandas"}, required, set(), rooms) == {}
    # An extra is enough for a lazy import, not for one that always runs.
    assert undeclared_imports(sources, required, {"onnxruntime", "torch"}) == {
        "pandas": "a.py",
        "onnxruntime": "b.py",
    }
