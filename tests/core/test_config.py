"""The configuration: defaults, files, overrides and comparison."""

import functools
import json
import operator

import pytest
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import defaults
from imgcls.core.config import leaves, load, merge, override
from imgcls.core.defaults import KEPT_KEYS, default_config
from imgcls.core.durations import to_steps
from imgcls.core.errors import ConfigError
from tests.conftest import REPO


@pytest.fixture
def config_file(tmp_path):
    """Writes a config file with this text; returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "experiment.py"
        path.write_text("from ml_collections import ConfigDict\n" + text)
        return str(path)

    return write


def set_one(argument: str) -> ConfigDict:
    return override(default_config(), [argument])


# ---- Defaults and JSON.


def test_defaults():
    config = default_config()
    assert set(config) == {
        *("seed", "total", "batch_size", "accumulate", "ema", "model", "objective", "data"),
        *("optim", "schedule", "mesh", "checkpoint", "guard", "evaluators", "log", "processes"),
        *("compile_cache", "init_from", "init_head", "plugins", "ema_warmup", "batch_norm", "auto"),
    }
    assert (config.batch_size, config.data.source, config.optim.name) == (128, "digits", "sgd")
    assert config.data.dir is None and config.data.mean == (0.5, 0.5, 0.5)
    config.optim.learning_rate = 3.0
    assert default_config().optim.learning_rate == 0.1


def test_defaults_are_valid_durations():
    config = default_config()
    assert to_steps(config.total, config, 1280, "total") == 100
    for text in (config.checkpoint.every, config.log.every, config.schedule.warmup):
        assert to_steps(text, config, 1280, "key") >= 0


def test_json_round_trip():
    config = load(str(REPO / "configs" / "resnet50.py"))
    config.optim.multipliers = (("head", 0.1), ("stem|layer1", 0.0))
    config.mesh.rules = (("kernel", ("fsdp", None)),)
    config.optim.clip_norm = 1.0
    text = config_lib.to_json(config)
    again = config_lib.from_json(text)
    assert again.to_dict() == config.to_dict()
    assert config_lib.to_json(again) == text
    assert again.optim.multipliers == (("head", 0.1), ("stem|layer1", 0.0))
    assert again.data.dir is None and again.evaluators.val.split == "validation"
    assert list(json.loads(text)) == sorted(config)


def test_json_round_trip_of_tuples_in_an_inner_section():
    """Otherwise a run would not continue, as its config would have changed."""
    options = {"stage_sizes": (1, 1), "deeper": {"sizes": ((1, 2), (3,))}}
    model = dict(name="slices2d", backbone_options=options)
    config = merge(default_config(), ConfigDict({"model": model}))
    again = config_lib.from_json(config_lib.to_json(config))
    assert config_lib.changed_keys(config, again) == {}
    assert again.model.backbone_options.deeper.sizes == ((1, 2), (3,))


def test_json_of_an_older_version_gets_new_defaults():
    old = json.loads(config_lib.to_json(default_config()))
    del old["ema"], old["ema_warmup"], old["checkpoint"]
    old["seed"] = 3
    config = config_lib.from_json(json.dumps(old))
    assert (config.seed, config.ema, config.checkpoint.every) == (3, 0.0, "1 epochs")
    # Where an older version did otherwise than the default, that is what it gets.
    assert config.ema_warmup is False


def test_json_of_an_older_version_keeps_its_meaning():
    """Where a new run does otherwise than one from before the key existed."""
    old = default_config()
    for key in KEPT_KEYS:
        *sections, name = key.split(".")
        del functools.reduce(operator.getitem, sections, old)[name]
    config = config_lib.from_json(config_lib.to_json(old))
    earlier = {key: before for key, (before, _) in KEPT_KEYS.items()}
    assert leaves(config) == leaves(default_config()) | earlier


# ---- Files.


def test_load_merges_the_file_into_the_defaults(config_file):
    path = config_file(
        "def get_config():\n"
        "  c = ConfigDict()\n"
        "  c.seed = 5\n"
        "  c.data = ConfigDict({'mean': [0.1, 0.2, 0.3], 'threads': 2})\n"
        "  c.optim = {'learning_rate': 1}\n"
        "  c.model = ConfigDict({'name': 'vit_s16', 'pool': 'gap'})\n"
        "  c.evaluators = {'test': {'split': 'test'}}\n"
        "  return c\n"
    )
    config = load(path)
    expected = default_config().to_dict()
    expected["seed"] = 5
    expected["data"] |= {"mean": (0.1, 0.2, 0.3), "threads": 2}
    expected["optim"]["learning_rate"] = 1.0
    expected["model"] |= {"name": "vit_s16", "pool": "gap"}
    expected["evaluators"] = {"test": {"split": "test"}}
    assert config.to_dict() == expected
    assert isinstance(config.optim.learning_rate, float)


def test_file_arguments(config_file):
    path = config_file(
        "def get_config(variant='S/16', epochs=1, big=False):\n"
        "  c = ConfigDict()\n"
        "  c.total = f'{epochs * 2} epochs'\n"
        "  c.model = ConfigDict({'variant': variant, 'big': big})\n"
        "  return c\n"
    )
    assert load(path).model.variant == "S/16"
    config = load(f"{path}:variant=B/32,epochs=3,big=True")
    assert config.total == "6 epochs"
    assert config.model.to_dict()["variant"] == "B/32" and config.model.big is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (":epoch=3", "unknown argument 'epoch'; did you mean 'epochs'"),
        (":3", "arguments are written name=value, not '3'"),
        (":epochs='many'", "get_config fails: ValueError: .*many"),
    ],
)
def test_wrong_file_arguments(config_file, arguments, message):
    path = config_file(
        "def get_config(epochs=1):\n  return ConfigDict({'total': f'{int(epochs)} epochs'})\n"
    )
    with pytest.raises(ConfigError, match=message):
        load(path + arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def config(): pass", r"defines no get_config\(\)"),
        ("def get_config(:", "experiment.py fails: SyntaxError"),
        ("import not_a_package", "fails: ModuleNotFoundError: .*not_a_package"),
        ("sizes = {}['small']\ndef get_config(): pass", "fails: KeyError"),
        ("def get_config(): return 1 / 0", "get_config fails: ZeroDivisionError"),
        ("def get_config(): return ConfigDict({'sed': 1})", "config.sed: unknown key; .*'seed'"),
        ("def get_config(): return ConfigDict({'seed': 1.5})", "config.seed=1.5: .*type int"),
        ("def get_config(): return ConfigDict({'optim': 'sgd'})", "config.optim='sgd': .*section"),
        (
            "def get_config(): return ConfigDict({'optim': {'learning_rat': 1.0}})",
            "config.optim.learning_rat: unknown key; did you mean 'learning_rate'",
        ),
        # The `return` was forgotten.
        ("def get_config():\n  c = ConfigDict()\n  c.seed = 1\n", "get_config"),
    ],
)
def test_wrong_files(config_file, text, message):
    with pytest.raises(ConfigError, match=message):
        load(config_file(text))


def test_missing_file_suggests_the_nearest(config_file, tmp_path):
    config_file("")
    with pytest.raises(ConfigError, match="no such file or recipe; did you mean '.*experiment.py'"):
        load(str(tmp_path / "experimnt.py"))
    with pytest.raises(ConfigError, match="no such file"):
        load(str(tmp_path / "nowhere" / "x.py"))


# ---- Merge and override.


def test_merge_is_in_place_and_deep():
    base = default_config()
    assert merge(base, ConfigDict({"optim": {"name": "adamw"}})) is base
    assert (base.optim.name, base.optim.momentum) == ("adamw", 0.9)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("seed=7", 7),
        ("batch_size=1_024", 1024),
        ("ema=0", 0.0),
        ("ema=0.999", 0.999),
        ("optim.learning_rate=1e-3", 1e-3),
        ("optim.learning_rate=2", 2.0),
        ("optim.nesterov=False", False),
        ("optim.nesterov=false", False),
        ("optim.nesterov=true", True),
        ("optim.clip_norm=1", 1.0),
        ("optim.clip_norm=None", None),
        ("optim.base_batch=256", 256),
        ("data.threads=None", None),
        ("data.dir=/data/tfds", "/data/tfds"),
        ("data.dir=None", None),
        ("data.dir=5", "5"),
        ("data.mean=(0.5,)", (0.5,)),
        ("data.mean=[0.1, 0.2, 0.3]", (0.1, 0.2, 0.3)),
        ("optim.multipliers=[['head', 0.1], ('stem', 0)]", (("head", 0.1), ("stem", 0))),
        ("data.train_transform=crop(8)|flip", "crop(8)|flip"),
        ("data.train_transform=", ""),
        ("data.train_transform=f(x='a=b')", "f(x='a=b')"),
        ("total=5 epochs", "5 epochs"),
        ("model.width=8", 8),
        ("model.name=vit_b16", "vit_b16"),
        ("objective.label_smoothing=0.1", 0.1),
        ("evaluators.test.split=test[:10]", "test[:10]"),
        ("checkpoint.keep_best=test/accuracy", "test/accuracy"),
    ],
)
def test_override(argument, value):
    config = set_one(f"--config.{argument}")
    result = config
    for name in argument.partition("=")[0].split("."):
        result = result[name]
    assert result == value and type(result) is type(value)


def test_override_changes_nothing_else():
    config = set_one("--config.optim.learning_rate=0.5")
    assert config_lib.changed_keys(default_config(), config) == {"optim.learning_rate": (0.1, 0.5)}


def test_later_overrides_win():
    arguments = ["--config.seed=1", "--config.optim.clip_norm=2.0", "--config.seed=2"]
    config = override(default_config(), [*arguments, "--config.optim.clip_norm=None"])
    assert config.seed == 2 and config.optim.clip_norm is None
    assert override(config, ["--config.optim.clip_norm=3"]).optim.clip_norm == 3.0


def test_override_of_an_option_set_by_the_file():
    config = default_config()
    config.model.virtual_batch_size = 32
    override(config, ["--config.model.virtual_batch_size=None"])
    assert config.model.virtual_batch_size is None
    config.objective.label_smoothing = 0.1
    with pytest.raises(ConfigError, match="label_smoothing='much': must be of type float"):
        override(config, ["--config.objective.label_smoothing=much"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.sed=1", "config.sed: unknown key; did you mean 'seed'"),
        ("--config.optim.learning_rat=1", "optim.learning_rat: .*did you mean 'learning_rate'"),
        ("--config.optm.name=sgd", "config has no section 'optm'; did you mean 'optim'"),
        ("--config.data.mean.x=1", "config.data has no section 'mean'"),
        ("--config.seed=1.5", "config.seed=1.5: must be of type int"),
        ("--config.seed=one", "config.seed='one': must be of type int"),
        ("--config.seed=True", "config.seed=True: must be of type int"),
        ("--config.seed=None", "config.seed: must be of type int, not None"),
        ("--config.total=None", "config.total: must be of type str, not None"),
        ("--config.ema=True", "config.ema=True: must be of type float"),
        ("--config.optim.nesterov=1", "optim.nesterov=1: must be of type bool"),
        ("--config.optim.clip_norm=x", "optim.clip_norm='x': must be of type float"),
        ("--config.optim.learning_rate=nan", "'nan': must be of type float"),
        ("--config.optim.learning_rate=1e999", "must be a finite number"),
        ("--config.data.mean=0.5", "data.mean=0.5: must be of type tuple"),
        ("--config.data.mean={[1]: 2}", "data.mean"),
        ("--config.optim=sgd", "config.optim='sgd': is a section"),
        ("--config.model=vit_b16", "config.model='vit_b16': is a section"),
        ("--config.seed", "not understood; overrides are --config.KEY=VALUE"),
        ("--seed=1", "not understood"),
        ("seed=1", "not understood"),
        ("--config.=1", "not understood"),
        # The keys of a section that is set at once are checked too.
        ("--config.optim={'learning_rat': 1}", "learning_rat: unknown key"),
        ("--config.optim={'momentum': 'x'}", "must be of type float"),
    ],
)
def test_wrong_overrides(argument, message):
    with pytest.raises(ConfigError, match=message) as error:
        set_one(argument)
    assert error.value.exit_code == 2 and "\n" not in str(error.value)


def test_override_of_a_section_keeps_its_other_keys():
    optim_section = set_one("--config.optim={'momentum': 0.5}").optim
    assert optim_section.momentum == 0.5 and optim_section.learning_rate == 0.1


# ---- Comparison.


def test_check_choice():
    config_lib.check_choice("optim.name", "sgd", ("sgd", "adam"))
    with pytest.raises(
        ConfigError, match="config.optim.name='adm': unknown; did you mean 'adam'.*sgd, adam"
    ):
        config_lib.check_choice("optim.name", "adm", ("sgd", "adam"))
    with pytest.raises(ConfigError, match="config.x=3: unknown"):
        config_lib.check_choice("x", 3, ("sgd",))


def test_changed_keys():
    old, new = default_config(), default_config()
    assert config_lib.changed_keys(old, new) == {}
    new.optim.learning_rate = 0.2
    new.model.width = 8
    old.evaluators.test = ConfigDict({"split": "test"})
    new.evaluators.test = ConfigDict({"split": "val"})
    old.objective.label_smoothing = 0.1
    assert config_lib.changed_keys(old, new) == {
        "optim.learning_rate": (0.1, 0.2),
        "model.width": (None, 8),
        "evaluators.test.split": ("test", "val"),
        "objective.label_smoothing": (0.1, None),
    }


def test_changed_keys_after_a_round_trip():
    config = load(str(REPO / "configs" / "resnet50.py"))
    again = config_lib.from_json(config_lib.to_json(config))
    assert config_lib.changed_keys(config, again) == {}


@pytest.mark.parametrize(
    ("key", "harmless"),
    [
        ("mesh.data", True),
        ("log.every", True),
        ("checkpoint.keep_last", True),
        ("evaluators", True),
        ("evaluators.test.split", True),
        ("compile_cache", True),
        ("data.dir", True),
        ("data.threads", True),
        ("data.workers", True),
        ("data.prefetch", True),
        ("data.source", False),
        ("data.train_transform", False),
        ("batch_size", False),
        ("seed", False),
        ("total", False),
        ("logistic", False),
        ("optim.learning_rate", False),
        ("model.width", False),
    ],
)
def test_is_harmless(key, harmless):
    assert defaults.is_harmless(key) is harmless
