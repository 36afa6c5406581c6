"""Plugins: files and modules, and the errors of those that can't be loaded."""

import pytest

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.core.plugins import load_plugin, load_plugins, plugins_digest


def test_files_and_modules_are_imported_once(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("loads = []\nloads.append(1)\n")
    (tmp_path / "my_parts.py").write_text("x = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = default_config()
    config.plugins = ("a.py", "my_parts")
    load_plugins(config)
    # A relative path is recorded as an absolute one.
    assert config.plugins == (str(tmp_path / "a.py"), "my_parts")
    load_plugins(config)
    assert load_plugin("a.py").loads == [1] and load_plugin("my_parts").x == 3


def test_files_with_the_same_name_are_two_modules(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "parts.py").write_text(f"where = {folder!r}\n")
    loaded = [load_plugin(str(tmp_path / folder / "parts.py")).where for folder in ("one", "two")]
    assert loaded == ["one", "two"]


def test_digest_depends_on_the_source(tmp_path):
    config, file = default_config(), tmp_path / "parts.py"
    none = plugins_digest(config)
    config.plugins = (str(file),)
    file.write_text("x = 1\n")
    first = plugins_digest(config)
    file.write_text("x = 2\n")
    assert len({none, first, plugins_digest(config)}) == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "parts.py: no such file; restore it"),
        ("1 / 0", "parts.py: fails: ZeroDivisionError: division by zero"),
        ("import no_such_thing", "parts.py: fails: ModuleNotFoundError: No module named"),
        ("x = (", "parts.py: fails: SyntaxError"),
    ],
)
def test_files_that_fail(tmp_path, source, message):
    file = tmp_path / "parts.py"
    if source is not None:
        file.write_text(source)
    with pytest.raises(ConfigError, match=message):
        load_plugin(str(file))


def test_missing_module():
    with pytest.raises(ConfigError, match="config.plugins: no_such.module: no such module"):
        load_plugin("no_such.module")
