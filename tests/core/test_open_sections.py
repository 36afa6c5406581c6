"""The open sections `model`, `objective` and `evaluators` can be emptied and parts switched off."""

import json

import pytest
from ml_collections import ConfigDict

from imgcls.core.config import load, merge, override
from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.evaluate.__main__ import main as evaluate
from imgcls.main import main


def make_config() -> ConfigDict:
    config = default_config()
    config.model = ConfigDict({"name": "vit_s16", "dtype": "bfloat16", "stem": {"width": 8}})
    config.objective.class_weights = {"cat": 2.0}
    config.evaluators.val = {"split": "val", "every": "1 epochs"}
    config.evaluators.knn = {"type": "knn"}
    config.checkpoint.keep_best = "val/accuracy"
    return config


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["evaluators.val=None"], {"knn": {"type": "knn"}}),
        (["evaluators={'val': None}"], {"knn": {"type": "knn"}}),
        (["evaluators.val=None", "evaluators.knn=None"], {}),
        (["evaluators=None"], {}),
        (["evaluators={}"], {}),
        (["evaluators={}", "evaluators.test.split=test"], {"test": {"split": "test"}}),
        (["evaluators.val={}", "evaluators.knn=None"], {"val": {}}),
        (["evaluators.other=None", "evaluators={}"], {}),
    ],
)
def test_evaluators(arguments, expected, capsys):
    config = override(make_config(), [f"--config.{a}" for a in arguments])
    assert config.evaluators.to_dict() == expected
    kept = "val" in expected
    assert config.checkpoint.keep_best == ("val/accuracy" if kept else None)
    warning = "warning: config.checkpoint.keep_best='val/accuracy' is off, as its evaluator is\n"
    assert capsys.readouterr() == ("", "" if kept else warning)


def test_keep_best_of_another_evaluator(capsys):
    changes = ("--config.checkpoint.keep_best=knn/accuracy", "--config.evaluators.val=None")
    for arguments in (changes, changes[::-1]):
        assert override(make_config(), arguments).checkpoint.keep_best == "knn/accuracy"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("argument", "section", "expected"),
    [
        ("objective.class_weights=None", "objective", {"class_weights": None}),
        ("objective.class_weights={}", "objective", {"class_weights": {}}),
        ("objective={}", "objective", {}),
        ("model.stem=None", "model", {"name": "vit_s16", "dtype": "bfloat16", "stem": None}),
        ("model.stem={}", "model", {"name": "vit_s16", "dtype": "bfloat16", "stem": {}}),
        ("model={}", "model", {}),
    ],
)
def test_model_and_objective(argument, section, expected):
    config = override(make_config(), [f"--config.{argument}"])
    default = default_config()[section].to_dict()
    assert config[section].to_dict() == default | expected


@pytest.mark.parametrize("key", ["optim", "optim.muon", "data", "checkpoint", "schedule"])
def test_other_sections(key):
    with pytest.raises(ConfigError, match=f"config.{key}={{}}: sets no key; leave it out"):
        override(make_config(), [f"--config.{key}={{}}"])
    with pytest.raises(ConfigError, match=f"config.{key}=None: is a section"):
        override(make_config(), [f"--config.{key}=None"])


@pytest.mark.parametrize("key", ["model", "objective"])
def test_there_is_always_a_model_and_an_objective(key):
    with pytest.raises(ConfigError, match=f"config.{key}=None: is a section"):
        override(make_config(), [f"--config.{key}=None"])


def test_a_config_file_switches_off_the_evaluator_of_another(tmp_path):
    changes = ConfigDict({"evaluators": {"val": None}})
    assert merge(make_config(), changes).evaluators.to_dict() == {"knn": {"type": "knn"}}
    file = tmp_path / "derived.py"
    file.write_text(
        "from imgcls.core.config import load\n"
        "def get_config():\n"
        "  c = load('digits')\n"
        "  c.evaluators.test, c.checkpoint.keep_best = None, None\n"
        "  return c\n"
    )
    assert load(str(file)).evaluators.to_dict() == {}


def test_the_command(tmp_path, capsys):
    run = (
        "--config=configs/digits.py",
        "--config.total=2 steps",
        "--config.model.width=4",
        "--config.model.stage_sizes=(1,)",
        "--config.compile_cache=",
    )
    for name, off in (("one", "evaluators.test=None"), ("all", "evaluators={}")):
        workdir = f"--workdir={tmp_path / name}"
        assert main([*run, f"--config.{off}", workdir]) == 0
        printed = capsys.readouterr()
        assert (
            "keep_best='test/accuracy' is off" in printed.err and "evaluators." not in printed.out
        )
        assert json.loads((tmp_path / name / "config.json").read_text())["evaluators"] == {}
        assert "test/" not in (tmp_path / name / "metrics.jsonl").read_text()
        # It continues with the evaluator, and without it again.
        assert main([*run, workdir]) == 0
        assert "evaluators.test: classification" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="its config has no evaluator"):
        evaluate([f"--workdir={tmp_path / 'one'}"])
    section = "--config.evaluators.test.split=test[:20]"
    assert evaluate([f"--workdir={tmp_path / 'one'}", section, "--bootstrap=0"]) == 0
    assert json.loads(capsys.readouterr().out)["test/examples"] == 20
