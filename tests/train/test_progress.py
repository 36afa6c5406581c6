"""A run is never continued at another point of its schedule without saying so."""

import re
import shlex

import pytest
from PIL import Image

from imgcls.core.config import load, override
from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.data.info import DataInfo
from imgcls.main import main
from imgcls.runs.save import Checkpointer
from imgcls.train.progress import check_progress
from imgcls.train.schedule import create_schedule
from tests.conftest import make_mesh
from tests.runs.test_load import INFO, make_state
from tests.runs.test_load import make_config as make_small

EXAMPLES, STEP = 640, 49


def make_config(**changes):
    config = make_small()
    config.batch_size, config.total = 64, "10 epochs"
    config.schedule.warmup = "1 epochs"
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (config[section] if section else config)[name] = value
    return config


@pytest.fixture
def run(tmp_path):
    """`run(config)`: a workdir at step 49 of a run of 640 examples."""

    def save(config, num_examples=EXAMPLES):
        info = DataInfo(INFO.class_names, False, INFO.image_shape, num_examples)
        checkpointer = Checkpointer(str(tmp_path), config, info)
        checkpointer.save(STEP, make_state(config, make_mesh())[0])
        checkpointer.close()
        return str(tmp_path)

    return save


def flags_of(error: ConfigError) -> list[str]:
    """The flags that the message advises, as a shell reads them."""
    text = re.search(r"Keep the schedule by (.*) --accept_changes, or", str(error))
    assert text is not None
    return shlex.split(text[1])


@pytest.mark.parametrize(
    ("batch_size", "examples", "words"),
    [
        (
            32,
            640,
            "config.batch_size was 64, is 32: step 49 of W, 49 % of the run, would be 24.5 % of "
            "it, as config.total='10 epochs' was 100 steps, is 200 steps, "
            "config.schedule.warmup='1 epochs' was 10 steps, is 20 steps. Keep",
        ),
        (
            128,
            640,
            "config.batch_size was 64, is 128: step 49 of W, 49 % of the run, would be 98 %",
        ),
        (64, 1280, "the number of examples was 640, is 1280: step 49 of W, 49 % of the run, would"),
        (32, 1280, "was 64, is 32, the number of examples was 640, is 1280: .* 49 %.* be 12.2 %"),
    ],
)
def test_both_readings(batch_size, examples, words, run):
    config = make_config()
    workdir = run(config)
    config.batch_size = batch_size
    words = re.escape(words.replace("W", workdir)).replace(r"\.\*", ".*")
    with pytest.raises(ConfigError, match=words) as error:
        check_progress(config, workdir, examples)
    assert "\n" not in str(error.value)
    # With the advised flags the learning rate of every step is as before.
    before = create_schedule(make_config(), Durations(make_config(), EXAMPLES))
    override(config, flags_of(error.value))
    check_progress(config, workdir, examples)
    after = create_schedule(config, Durations(config, examples))
    assert [float(after(s)) for s in range(100)] == [float(before(s)) for s in range(100)]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (
            {"schedule__name": "step", "schedule__boundaries": ("3 epochs", "6 epochs")},
            "boundaries",
        ),
        ({"schedule__name": "rsqrt", "schedule__timescale": "1e3 examples"}, "timescale"),
        ({"schedule__name": "rsqrt", "schedule__cooldown": "2 epochs"}, "cooldown"),
        ({"optim__multipliers": (("head", 1.0, "2 epochs"),)}, "multipliers"),
    ],
)
def test_every_duration_of_the_schedule(changes, key, run):
    steps = {"total": "100 steps", "schedule__warmup": "10 steps"}
    config = make_config(**steps, **changes)
    workdir = run(config)
    check_progress(config, workdir, EXAMPLES)
    config.batch_size = 32
    with pytest.raises(ConfigError, match=f"{key}=.* was .*, is ") as error:
        check_progress(config, workdir, EXAMPLES)
    flags = flags_of(error.value)
    assert len(flags) == 1 and f".{key}=" in flags[0] and "steps" in flags[0]
    check_progress(override(config, flags), workdir, EXAMPLES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"seed": 5}),
        # As many steps as before.
        ({"total": "100 steps", "schedule__warmup": "5 percent"}, {"batch_size": 32}),
        # Written differently than before.
        ({"schedule__warmup": "0 steps"}, {"batch_size": 32, "total": "20 epochs"}),
        ({"schedule__warmup": "5 percent"}, {"batch_size": 32, "total": "150 steps"}),
    ],
)
def test_what_is_continued(old, new, run):
    workdir = run(make_config(**old))
    check_progress(make_config(**old | new), workdir, EXAMPLES)


def test_older_checkpoints_and_new_runs(run, tmp_path):
    check_progress(make_config(), str(tmp_path / "new"), EXAMPLES)
    workdir = run(make_config(), num_examples=0)
    check_progress(make_config(), workdir, 1280)
    with pytest.raises(ConfigError, match="is 32: step 49"):
        check_progress(make_config(batch_size=32), workdir, 1280)


def write_images(folder, numbers) -> None:
    for number in numbers:
        file = folder / "train" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 5, 0, 0)).save(file)


def test_the_command(tmp_path):
    """A batch size that halves, and images that are added, while the run is stopped."""
    images, workdir = tmp_path / "images", f"--workdir={tmp_path / 'run'}"
    write_images(images, range(32))
    command = [
        f"--config=configs/own.py:data=folder:{images},size=8,width=4",
        "--config.evaluators={}",
        "--config.model.stage_sizes=(1,)",
        "--config.compile_cache=",
        "--config.total=4 epochs",
        workdir,
    ]
    assert load(command[0].partition("=")[2]).schedule.warmup == "5 percent"
    assert main([*command, "--config.batch_size=16"]) == 0
    with pytest.raises(ConfigError, match="step 8 .*, 100 % of the run, would be 50 % of it"):
        main([*command, "--config.batch_size=8", "--accept_changes"])
    write_images(images, range(32, 48))
    with pytest.raises(ConfigError, match="of examples was 32, is 48: step 8 .*66.7 %") as error:
        main([*command, "--config.batch_size=16"])
    assert flags_of(error.value) == ["--config.total=8 steps"]
    kept = [*command, *flags_of(error.value), "--accept_changes"]
    assert main([*kept, "--config.batch_size=16"]) == 0
