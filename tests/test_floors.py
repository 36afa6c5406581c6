"""Floors: a module imports from its own folder or from a lower floor, never upward."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1] / "imgcls"

# From the ground up. Rooms on the same floor do not import each other.
FLOORS = (
    ("core",),
    ("losses", "models", "distributed"),
    ("data",),
    ("objectives",),
    ("runs",),
    ("evaluate", "export"),
    ("train", "predict"),
    ("report", "bench"),
    ("audit", "browse", "compare", "tune"),
    ("sweep",),
    ("api",),
    ("studio",),
    ("doors",),
)
# Files of the package's root are its doors; its face, `imgcls/__init__.py`, opens lazily.
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def module_of(path: pathlib.Path, root: pathlib.Path) -> str:
    parts = list(path.relative_to(root.parent).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_imports(root: pathlib.Path) -> dict[str, set[str]]:
    """`{module: modules of the package that it imports}`, imports inside of functions included.

    What stands under `if TYPE_CHECKING:` counts too.
    """
    paths = {module_of(path, root): path for path in sorted(root.rglob("*.py"))}
    found = {}
    for module, path in paths.items():
        found[module] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in paths else node.module for name in names]
            else:
                continue
            found[module] |= {name for name in names if name in paths and name != module}
    return found


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR_OF else "doors"


def upward_imports(imports: dict[str, set[str]]) -> list[str]:
    found = []
    for module, targets in imports.items():
        for target in targets:
            here, there = room_of(module), room_of(target)
            if here != there and FLOOR_OF[there] >= FLOOR_OF[here]:
                found.append(f"{module} -> {target}")
    return sorted(found)


def find_circle(imports: dict[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as e:
        return e.args[1]
    return []


def test_imports_go_down_only():
    assert upward_imports(read_imports(ROOT)) == []


def test_no_circular_imports():
    assert find_circle(read_imports(ROOT)) == []


def test_every_folder_has_a_floor():
    folders = {p.name for p in ROOT.iterdir() if (p / "__init__.py").exists()}
    assert folders == FLOOR_OF.keys() - {"doors"}


def test_length_of_files():
    long = {str(p): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long


@pytest.fixture
def house(tmp_path):
    """A package of two floors, for planted faults."""
    root = tmp_path / "imgcls"
    for folder in ("core", "data"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").write_text("")
    (root / "__init__.py").write_text("")
    (root / "core" / "config.py").write_text("import os\n")
    (root / "data" / "create.py").write_text("from imgcls.core import config\n")
    return root


def test_the_rule_holds_in_a_small_house(house):
    imports = read_imports(house)
    assert imports["imgcls.data.create"] == {"imgcls.core.config"}
    assert upward_imports(imports) == [] and find_circle(imports) == []


def test_a_planted_upward_import_is_found(house):
    source = "def f():\n    from imgcls.data.create import x\n"
    (house / "core" / "errors.py").write_text(source)
    assert upward_imports(read_imports(house)) == ["imgcls.core.errors -> imgcls.data.create"]


def test_a_planted_circle_is_found(house):
    (house / "data" / "info.py").write_text("import imgcls.data.create\n")
    (house / "data" / "create.py").write_text("from imgcls.data import info\n")
    circle = find_circle(read_imports(house))
    assert set(circle) == {"imgcls.data.create", "imgcls.data.info"}
