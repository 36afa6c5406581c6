"""What may be trained from the page, and what may not."""

import inspect
import runpy
import sys

import pytest

from imgcls.core import config as config_lib
from imgcls.core.errors import ConfigError
from imgcls.studio.learning import recipes

SOURCE = {"source": "manifest:/a b/m,x=1.jsonl", "multi_label": False}


def _arguments(recipe="own", arguments=(), keys=(), allow_configs=False, runs=None):
    extra = {} if runs is None else {"runs": runs}
    given = dict(arguments), dict(keys), SOURCE, allow_configs
    return recipes.arguments_of(recipe, *given, **extra)


def test_the_form_has_the_arguments_of_each_recipe():
    """Compared with the functions themselves, which reading the form does not run."""
    for entry in recipes.list_recipes():
        module = runpy.run_path(str(config_lib.recipes()[entry["name"]]))
        expected = inspect.signature(module["get_config"]).parameters
        fields = {field["key"]: field for field in entry["arguments"]}
        assert fields.keys() == expected.keys() - {"data"}
        for name, field in fields.items():
            default = expected[name].default
            assert field["required"] == (default is inspect.Parameter.empty)
            computed = entry["name"] == "cryo_em" and name == "maps"
            assert field["default"] == (None if field["required"] or computed else default)
        assert entry["about"] and "\n" not in entry["about"]


def test_the_command_gives_the_config_that_was_asked_for():
    keys = {
        "data.source": "digits",
        "config.optim.learning_rate": 0.25,
        "total": "7 steps",
        "data.mean": "(0.1, 0.2, 0.3)",
    }
    command = _arguments("own", {"size": "24", "epochs": 2, "weights": "timm:resnet18.a1"}, keys)
    config = config_lib.override(config_lib.load(command[0].removeprefix("--config=")), command[1:])
    assert config.data.source == SOURCE["source"] and config.data.multi_label is False
    assert config.optim.learning_rate == 0.25 and config.total == "7 steps"
    assert config.data.mean == (0.1, 0.2, 0.3) and config.init_from == "timm:resnet18.a1"
    assert "24" in config.data.train_transform
    # A recipe without the argument `data` is trained on it too.
    assert f"--config.data.source={SOURCE['source']}" in _arguments("digits")


@pytest.mark.parametrize(
    "recipe, arguments, keys, message",
    [
        ("owm", {}, {}, "recipe='owm': unknown; did you mean 'own'"),
        ("configs/own.py", {}, {}, "unknown"),
        ("/etc/passwd", {}, {}, "unknown"),
        ("own", {"sise": 1}, {}, "arguments.sise: unknown; did you mean 'size'"),
        ("own", {"size": "abc"}, {}, "must be of type int"),
        ("own", {"size": True}, {}, "must be of type int"),
        ("own", {"data": "folder:/etc"}, {}, "is the version that is trained on"),
        ("own", {"weights": "/etc/passwd"}, {}, "write timm:NAME, or run:NUMBER"),
        ("own", {"weights": "timm:/etc/passwd"}, {}, "write timm:NAME, or run:NUMBER"),
        ("own", {"weights": "run:99"}, {}, "there is no such run"),
        ("own", {"model": "a'b\"c"}, {}, "both kinds of quotes"),
        ("finetune", {}, {}, "arguments.init_from: is needed by finetune"),
        ("own", {}, {"optim.learning_rat": 1}, "did you mean 'learning_rate'"),
        ("own", {}, {"batch_size": "many"}, "must be of type int"),
        ("own", {}, {"plugins": "('/tmp/x.py',)"}, "can't be set from here"),
        ("own", {}, {"config.plugins": "('/tmp/x.py',)"}, "can't be set from here"),
        ("own", {}, {"compile_cache": "/etc"}, "can't be set from here"),
        ("own", {}, {"log.wandb": True}, "can't be set from here"),
        ("own", {}, {"log": "{'wandb': True}"}, "can't be set from here"),
        ("own", {}, {"data.source": "folder:/etc"}, "is set by the version"),
        ("own", {}, {"data.dir": "/etc"}, "is set by the version"),
        ("own", {}, {"data": "{'source': 'folder:/etc'}"}, "is set by the version"),
        ("own", {}, {"init_from": "/etc/passwd"}, "write timm:NAME"),
    ],
)
def test_what_is_refused_in_one_line(recipe, arguments, keys, message):
    with pytest.raises(ConfigError) as error:
        _arguments(recipe, arguments, keys)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_argument_can_be_no_second_one():
    """A value with commas and quotes stays one value."""
    command = _arguments("own", {"model": "a,data='folder:/etc'"})
    assert config_lib._read_arguments(command[0].partition(":")[2], "x") == {
        "model": "a,data='folder:/etc'",
        "data": SOURCE["source"],
    }


def test_the_owner_of_a_home_may_name_files(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def get_config(data: str, depth: int = 3): ...\n")
    with pytest.raises(ConfigError, match="unknown"):
        _arguments(str(file))
    keys = {"plugins": "('x',)", "init_from": "/weights.npz"}
    command = _arguments(str(file), {"depth": 5}, keys, allow_configs=True)
    assert command[0].startswith(f"--config={file}:depth=5,data=")
    assert "--config.init_from=/weights.npz" in command
    for wrong in ("mine.py", str(tmp_path), str(tmp_path / "none.py")):
        with pytest.raises(ConfigError, match="no recipe, and no absolute path"):
            _arguments(wrong, allow_configs=True)


def test_weights_of_a_run(tmp_path):
    (tmp_path / "12").mkdir()
    command = _arguments("finetune", {"init_from": "run:12"}, runs=tmp_path)
    assert f"init_from='{tmp_path / '12'}'" in command[0]


def test_keys_as_text():
    text = "# comment\nconfig.total=3 epochs\n--config.optim.name=adamw\n\nema = 0.9\n"
    assert recipes.read_keys(text) == {
        "config.total": "3 epochs",
        "config.optim.name": "adamw",
        "ema": "0.9",
    }
    with pytest.raises(ConfigError, match="config, line 2: 'total 3': write config.KEY=VALUE"):
        recipes.read_keys("seed=1\ntotal 3")


def test_the_form_needs_no_jax():
    code = "import sys; from imgcls.studio.learning import recipes as r; r.list_recipes();"
    code += " r.list_keys(); assert 'jax' not in sys.modules"
    import subprocess

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
