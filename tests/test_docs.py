"""Links, commands, config keys and examples in the README and the guides."""

import ast
import contextlib
import importlib
import importlib.util
import io
import json
import re
import shlex
import sys
import tomllib

import jax
import numpy as np
import pytest
import yaml

import imgcls.main
from imgcls.core import config as configs
from imgcls.core.defaults import default_config
from imgcls.core.registry import Registry
from imgcls.data.formats.format import FORMATS
from imgcls.data.info import DataInfo
from imgcls.data.sources.open import create_source
from imgcls.data.sources.source import SOURCES
from imgcls.data.transforms.transform import BATCH_TRANSFORMS, TRANSFORMS
from imgcls.evaluate.evaluator import EVALUATORS
from imgcls.losses.registry import LOSSES, classification_losses
from imgcls.models.registry import MODELS
from imgcls.objectives.create import create_objective
from imgcls.objectives.objective import OBJECTIVES
from imgcls.train.optim import OPTIMIZERS
from imgcls.train.schedule import SCHEDULES
from tests.conftest import REPO
from tests.test_floors import FLOORS

GUIDES = sorted((REPO / "docs").glob("*.md"))
FILES = [REPO / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
FILES += GUIDES
REGISTRIES: list[Registry] = [
    *(MODELS, LOSSES, OBJECTIVES, SOURCES, FORMATS, TRANSFORMS, BATCH_TRANSFORMS),
    *(EVALUATORS, OPTIMIZERS, SCHEDULES),
]


def load_hooks():
    spec = importlib.util.spec_from_file_location("hooks", REPO / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = load_hooks()


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def text(request) -> str:
    return request.param.read_text(encoding="utf-8")


@pytest.fixture
def examples(monkeypatch):
    """Registers the parts of the guides for one test."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_parts", dict(registry.items()))
    for name in ("docs/extending.md", "CONTRIBUTING.md"):
        run_blocks((REPO / name).read_text())


def blocks(text: str, language: str) -> list[str]:
    """Returns the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run_blocks(text: str) -> None:
    """Runs the examples that register parts, each in its own namespace."""
    for block in blocks(text, "python"):
        if "@register_" in block:
            exec(compile(block, "example.py", "exec"), {"__name__": "example"})


def shell_lines(text: str) -> list[str]:
    """Returns the commands in code blocks and inline code, with continued lines joined."""
    lines = "".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    return lines + re.findall(r"`((?:python -m imgcls\.|imgcls )[^`]*)`", text)


# ---- README.


def test_readme_is_one_screen_with_the_commands_of_ci():
    text = (REPO / "README.md").read_text()
    assert len(text.splitlines()) < 130
    for marker in ("run", "test", "own"):
        (block,) = re.findall(rf"<!-- {marker} -->\n```bash\n(.*?)```\n<!-- end -->", text, re.S)
        assert block.strip()


# ---- Links.


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def broken_links(path, text: str) -> list[str]:
    """Returns the links of a file whose target file or heading does not exist."""
    broken = []
    pages = {page: REPO / name for name, page in HOOKS.PAGES.items()}
    for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        if name in HOOKS.reference_pages():
            continue
        file = pages.get(name, (path.parent / name) if name else path)
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M) if file.is_file() else []
        if not file.exists() or (anchor and anchor not in map(slug, headings)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_links_are_valid(path):
    assert broken_links(path, path.read_text()) == []


def test_broken_links_are_found():
    text = "[a](data.md#imagenet) [b](none.md) [c](data.md#none) [d](api/imgcls.none.md) [e](#x)"
    found = broken_links(REPO / "docs" / "index.md", text)
    assert found == ["none.md", "data.md#none", "api/imgcls.none.md", "#x"]


def test_every_guide_is_on_the_site():
    nav = yaml.safe_load((REPO / "mkdocs.yml").read_text())["nav"]
    named = set(re.findall(r"\w+\.md", json.dumps(nav)))
    assert named == {path.name for path in GUIDES} | set(HOOKS.PAGES.values())


def test_links_of_the_readme_are_rewritten_for_the_site(tmp_path):
    file = tmp_path / "a.md"
    file.write_text("[a](docs/data.md#x) [b](CHANGELOG.md) [c](LICENSE) [d](https://x.org)")
    assert HOOKS._page(file) == "[a](data.md#x) [b](changelog.md) c [d](https://x.org)"


def test_remote_files_are_found(tmp_path):
    (tmp_path / "api").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="https://a.org">a</a><link rel="canonical" href="https://b.org">'
        '<link rel="stylesheet" href="//c.org/c.css"><script src="a.js"></script>'
        '<img srcset="a.png 1x, https://d.org/d.png 2x">'
    )
    (tmp_path / "api" / "x.html").write_text('<script src="https://e.org/e.js"></script>')
    (tmp_path / "a.css").write_text("@import 'https://f.org/f.css'; a {background: url(a.png)}")
    assert HOOKS.remote_files(tmp_path) == [
        "api/x.html: https://e.org/e.js",
        "index.html: //c.org/c.css",
        "index.html: https://d.org/d.png",
        "a.css: https://f.org/f.css",
    ]


# ---- Commands.


def help_of(name: str) -> str:
    """Returns the output of --help; the command runs in this process."""
    module = importlib.import_module(f"imgcls.{name}")
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"imgcls.{name}.__main__")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stopped:
        module.main(["--help"])
    assert not stopped.value.code
    return printed.getvalue()


def test_commands_exist_and_take_the_options(text):
    for line in shell_lines(text):
        for name, rest in re.findall(r"python -m imgcls\.([a-z_]+)\b([^|;&#]*)", line):
            help_text = help_of(name)
            for option in re.findall(r"(?:^|\s)--(\w+)(?![\w.])", rest):
                assert f"--{option}" in help_text, f"{line}: no option --{option}"


def test_commands_of_the_script_exist(text, monkeypatch, capsys):
    scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["imgcls"].partition(":")
    monkeypatch.setattr(sys, "argv", ["imgcls", "--help"])
    with pytest.raises(SystemExit) as stopped:
        getattr(importlib.import_module(module), function)()
    assert not stopped.value.code
    listed = capsys.readouterr().out
    for line in shell_lines(text):
        for name in re.findall(r"^imgcls (\w+)", line):
            assert re.search(rf"^\s+{name}\b", listed, re.M), f"imgcls {name}"


def test_recipes_exist(text):
    names = {path.stem for path in (REPO / "configs").glob("*.py")}
    for name in re.findall(r"--config=(?:configs/)?(?!configs/)([a-z]\w+)", text):
        assert name in names, name


def test_every_recipe_is_in_the_guide():
    text = (REPO / "docs" / "recipes.md").read_text()
    for path in (REPO / "configs").glob("*.py"):
        assert f"`{path.name}`" in text, path.name
    # No published accuracy is claimed.
    for row in re.findall(r"^\| `.*$", text, re.M):
        target = row.split("|")[3]
        ours = re.search(r"none|yours", target)
        assert ours or "target" in target, row


# ---- Config keys.


def unknown_keys(text: str) -> list[str]:
    """Returns keys written `config.a.b`, or `a.b` in code, that are not in the config."""
    keys = re.findall(r"config\.([a-z_]\w*(?:\.\w+)*)", text)
    sections = [key for key, value in default_config().items() if hasattr(value, "keys")]
    keys += re.findall(rf"`((?:{'|'.join(sections)})\.\w+)[`=]", text)
    files = {"json", "py", "onnx", "safetensors", "stablehlo"}
    return [key for key in keys if key.split(".")[-1] not in files and not is_key(key)]


def is_key(key: str) -> bool:
    first, *rest = key.split(".")
    known = configs.leaves(default_config())
    if any(name == key or name.startswith(key + ".") for name in known):
        return True
    if first == "model" and rest:
        return any(rest[0] in entry.options for entry in MODELS.values())
    if first == "objective" and rest:
        options = {option for name in OBJECTIVES for option in OBJECTIVES.options(name)}
        options |= {option for loss in classification_losses().values() for option in loss.options}
        return rest[0] in options
    if first == "evaluators":
        options = {option for name in EVALUATORS for option in EVALUATORS.options(name)}
        return len(rest) < 2 or rest[1] in options | {"type", "every"}
    return False


def test_config_keys_exist(text, examples):
    # Parts of the examples have options too.
    assert unknown_keys(text) == []


def test_unknown_keys_are_found():
    text = "`config.optim.rate` `data.sauce` --config.model.wide=1 config.seed `guard.skip`"
    assert unknown_keys(text) == ["optim.rate", "model.wide", "data.sauce"]


# ---- Floors and messages.


def test_floors_are_those_of_the_contributors_guide():
    text = (REPO / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (?:doors|ground)? *\| (`.*) \|$", text.split("## Add a part")[0], re.M)
    rooms = [set(re.findall(r"`(\w+)`", row.partition(":")[0])) for row in rows]
    assert rooms[1:] == [set(floor) for floor in reversed(FLOORS[:-1])]
    assert FLOORS[-1] == ("doors",)
    for name in rooms[0]:
        assert (REPO / "imgcls" / f"{name}.py").is_file(), name


def message_patterns() -> list[re.Pattern]:
    """Returns the string literals of the package as patterns that match any inserted value."""
    found = []
    for path in (REPO / "imgcls").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [x.value if isinstance(x, ast.Constant) else None for x in node.values]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node.value]
            else:
                continue
            if sum(len(part or "") for part in parts) >= 12:
                found.append(re.compile(".*?".join(re.escape(x) for x in parts if x), re.S))
    return found


def test_messages_of_the_reliability_guide_are_those_of_the_package():
    text = (REPO / "docs" / "reliability.md").read_text()
    table = text.split("## What happens")[1].split("## Exit codes")[0]
    patterns = message_patterns()
    rows = [row for row in table.splitlines() if row.startswith("| ") and "`" in row]
    assert len(rows) == 13
    for row in rows:
        message = re.findall(r"`([^`]*)`", row.split("|")[-2])[-1].removeprefix("error: ")
        covered = set()
        for pattern in patterns:
            if match := pattern.search(message):
                covered |= set(range(*match.span()))
        # The rest are values, such as paths and numbers.
        assert len(covered) > 0.5 * len(message), message


# ---- Examples.


def test_recipe_of_the_guide():
    (block,) = blocks((REPO / "docs" / "recipes.md").read_text(), "python")
    namespace: dict = {}
    exec(block, namespace)
    config = configs.merge(default_config(), namespace["get_config"](epochs=3))
    assert config.total == "3 epochs" and config.model.width == 16


def test_loss_of_the_contributors_guide(examples):
    logits, labels = np.array([[2.0, 0.0, 1.0], [0.5, 0.1, 0.0]]), np.array([0, 2])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    own = p[[0, 1], labels]
    np.testing.assert_allclose(
        LOSSES["poly1"].function(logits, labels, 2.0), -np.log(own) + 2 * (1 - own), rtol=1e-5
    )


@pytest.fixture
def npz(tmp_path) -> str:
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 64), ("test", 32)):
        arrays[f"{name}_images"] = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
        arrays[f"{name}_labels"] = np.arange(count) % 3
    np.savez(tmp_path / "images.npz", **arrays)
    return str(tmp_path / "images.npz")


def test_examples_train(examples, npz, tmp_path):
    """A run with all parts of the guide: source, model, loss and so on."""
    (tmp_path / "config.py").write_text(
        "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict()\n"
    )
    keys = {
        **{"data.source": f"npz:{npz}", "data.eval_transform": "resize((8, 8))"},
        **{"data.train_transform": "invert(0.2)|flip", "data.batch_transform": "noise(0.05)"},
        **{"model.name": "tiny_cnn", "model.width": 8, "batch_size": 16, "total": "4 steps"},
        **{"objective.loss": "confidence_penalty", "objective.beta": 0.2},
        **{"optim.name": "lion", "optim.learning_rate": 1e-3, "schedule.name": "exponential"},
        **{"evaluators.means.type": "nearest_mean", "evaluators.means.every": "4 steps"},
        **{"log.every": "1 steps", "log.tensorboard": False, "compile_cache": ""},
    }
    overrides = [f"--config.{key}={value}" for key, value in keys.items()]
    arguments = [f"--config={tmp_path}/config.py", f"--workdir={tmp_path}/run", *overrides]
    assert imgcls.main.main(arguments) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = {key: value for line in lines for key, value in json.loads(line).items()}
    assert 0 <= logged["means/accuracy"] <= 1 and np.isfinite(logged["train/loss"])


def test_source_of_the_guide_cuts_splits(examples, npz):
    source = create_source(f"npz:{npz}", "train[:50%]")
    assert len(source) == 32 and source.class_names == ("0", "1", "2")
    assert source[0]["image"].shape == (8, 8, 3) and source[0]["label"] == source.labels()[0]


def test_label_format_of_the_guide(examples, tmp_path):
    from PIL import Image

    for i in range(20):
        Image.new("RGB", (8, 8), (12 * i, 0, 0)).save(tmp_path / f"{i}.png")
    lines = "".join(f"{i}\t{'cat' if i % 2 else 'dog'}\t{i}.png\n" for i in range(20))
    (tmp_path / "all.lst").write_text(lines)
    source = create_source(f"lst:{tmp_path}/all.lst", "train")
    assert len(source) == 16 and source.class_names == ("cat", "dog")


def test_loss_of_the_guide(examples):
    logits, labels = np.array([[2.0, 0.0], [0.5, 0.5]]), np.array([0, 1])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(p[[0, 1], labels]) + 0.3 * (p * np.log(p)).sum(-1)
    found = LOSSES["confidence_penalty"].function(logits, labels, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_objective_of_the_guide(examples):
    config = default_config()
    config.objective = {"name": "rotation"}
    config.model = {"name": "tiny_cnn", "width": 4}
    objective = create_objective(config, DataInfo(("a", "b"), False, (8, 8, 3)))
    image = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    batch = {"image": image, "label": np.zeros(8, int)}

    @jax.jit
    def first_loss(batch):
        params, state = objective.init(jax.random.key(1), {"image": batch["image"]})
        return objective.loss(params, state, None, batch, jax.random.key(2), 0)

    loss, (_, metrics) = first_loss(batch)
    # Initial logits give chance level for the four rotations.
    assert abs(float(loss) - np.log(4)) < 0.5 and float(metrics["loss"]) == float(loss)


def test_commands_of_shell_blocks_are_split_like_a_shell_does():
    lines = [line for path in FILES for line in shell_lines(path.read_text())]
    commands = [shlex.split(s, comments=True) for s in lines if s.startswith(("python", "imgcls "))]
    assert len(commands) > 20
    assert all(c[0] in ("python", "python3", "imgcls") and all(c) for c in commands)
