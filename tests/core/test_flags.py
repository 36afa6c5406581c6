"""Unknown flags are answered with the nearest one, in one line, by every command."""

import importlib

import pytest

from imgcls.core.errors import ConfigError
from imgcls.main import main

WRONG = [
    ("predict.__main__", ["--checkpoint=x", "--topk=3", "a.png"], "--topk=3: .*'--top_k'"),
    ("predict.__main__", ["--checkpoint=x", "--thresold", "3", "a"], "--thresold: .*'--threshold'"),
    ("audit.__main__", ["--data=x", "--ot=y"], "--ot=y: .*'--out'.; --help lists the flags"),
    ("convert", ["--from=x", "--to=y", "--shard=3"], "--shard=3: .*'--shards'"),
    (
        "report.__main__",
        ["--workdir=x", "--exampels=3"],
        "'--examples'.; overrides are --config.KEY",
    ),
    ("evaluate.__main__", ["--workdir=x", "--bootstraps=3"], "'--bootstrap'.; overrides are"),
    ("main", ["--config=digits", "--workdir=x", "--accept_change"], "'--accept_changes'"),
    (
        "main",
        ["--config=digits", "--workdir=x", "config.seed=1"],
        "config.seed=1: not understood",
    ),
]


@pytest.mark.parametrize(("module", "arguments", "message"), WRONG)
def test_the_nearest_flag_is_named(module, arguments, message):
    with pytest.raises(ConfigError, match=message):
        importlib.import_module(f"imgcls.{module}").main(arguments)


def test_main_says_where_data_goes():
    message = (
        "--data=/my/pictures: write --config=configs/own.py:data=/my/pictures, or --config.data"
    )
    with pytest.raises(ConfigError, match=message):
        main(["--config=configs/own.py", "--workdir=x", "--data=/my/pictures"])


def test_the_help_says_where_keys_and_arguments_are_listed(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for place in ("imgcls/core/defaults.py", "docs/recipes.md", "configs/own.py"):
        assert place in text
    assert "--data" not in text
