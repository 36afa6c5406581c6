"""`imgcls.train`: the bits of the command, interrupts, and nothing left behind."""

import os
import signal
import threading

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import imgcls
from imgcls.core.config import leaves, load, read_config
from imgcls.core.errors import ConfigError
from tests.end_to_end.test_resume import final_state, training_curve

SETTINGS = {
    "total": "24 steps",
    "batch_size": 64,
    "model.width": 8,
    "model.stage_sizes": (1, 1),
    "model.virtual_batch_size": 8,
    "data.train_transform": "pad_crop(8, padding=1)|flip|rand_augment(2, 10)",
    "data.batch_transform": "mixup(0.2)",
    "ema": 0.9,
    "checkpoint.every": "8 steps",
    "log.every": "4 steps",
}
FLAGS = [f"--config.{key}={value}" for key, value in SETTINGS.items()]


@pytest.fixture
def on_devices(monkeypatch):
    """Makes runs of this process use the first of its devices."""
    return lambda count: monkeypatch.setattr(jax, "device_count", lambda *_: count)


@pytest.fixture(scope="module")
def typed(command, tmp_path_factory):
    """Workdirs of the command by the number of devices."""
    workdirs = {}
    for devices in (1, 8):
        workdirs[devices] = tmp_path_factory.mktemp(f"typed{devices}")
        flags = ["--config=digits", f"--workdir={workdirs[devices]}", *FLAGS]
        done = command("main", *flags, devices=devices)
        assert done.returncode == 0, done.stderr
    return workdirs


def assert_same_run(workdir, other) -> None:
    arrays, expected = final_state(workdir), final_state(other)
    assert arrays.keys() == expected.keys()
    for path, array in arrays.items():
        np.testing.assert_array_equal(array, expected[path], err_msg=path)
    assert training_curve(workdir) == training_curve(other)


def test_the_bits_of_the_command(typed, tmp_path, on_devices):
    """Two runs of one process on different meshes, with an error between them."""
    logged, evaluated = [], []
    before = threading.active_count(), signal.getsignal(signal.SIGINT)
    for devices in (8, 1):
        on_devices(devices)
        with pytest.raises(ConfigError, match="config.optim has no key|unknown key"):
            imgcls.train("digits", tmp_path / f"{devices}", **{"optim.learning_rat": 1e-3})
        with pytest.raises(ConfigError, match="init_from"):
            imgcls.train("digits", tmp_path / f"{devices}", init_from=str(tmp_path / "none"))
        run = imgcls.train(
            "digits",
            tmp_path / f"{devices}",
            on_log=lambda *args: logged.append(args),
            on_eval=lambda *args: evaluated.append(args),
            **SETTINGS,
        )
        assert_same_run(tmp_path / f"{devices}", typed[devices])
    assert (threading.active_count(), signal.getsignal(signal.SIGINT)) == before

    assert [step for step, _ in logged] == 2 * [4, 8, 12, 16, 20, 24]
    assert [line for line in run.history if "train/loss" in line][0]["train/loss"] == pytest.approx(
        logged[6][1]["train/loss"]
    )
    assert evaluated[-1][0] == run.step == 24
    assert run.metrics["test/accuracy"] == evaluated[-1][1]["test/accuracy"]
    assert "test/accuracy" in run._repr_html_() and "data:image/svg" in run._repr_html_()


def test_an_interrupt_saves_and_the_same_call_continues(typed, tmp_path, on_devices, capsys):
    """Ctrl-C, twice and at different steps; then the same call goes on to the end."""
    on_devices(1)
    for stop in (4, 12):

        def interrupt(step, _, stop=stop):
            if step == stop:
                os.kill(os.getpid(), signal.SIGINT)

        run = imgcls.train("digits", tmp_path, on_log=interrupt, **SETTINGS)
        assert stop < run.step < 24
        assert f"stopped at step {run.step} of 24" in capsys.readouterr().out
    run = imgcls.train("digits", tmp_path, **SETTINGS)
    assert run.step == 24
    # The same bits; the curve has lines at the same steps.
    arrays, expected = final_state(tmp_path), final_state(typed[1])
    for path, array in arrays.items():
        np.testing.assert_array_equal(array, expected[path], err_msg=path)
    assert imgcls.train("digits", tmp_path, **SETTINGS).step == 24


def test_a_second_interrupt_ends_at_once(tmp_path, on_devices):
    """It is a KeyboardInterrupt, which leaves no lock: the run goes on afterwards."""
    on_devices(1)

    def interrupt_twice(step, _):
        if step == 12:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        imgcls.train("digits", tmp_path, on_log=interrupt_twice, **SETTINGS)
    assert imgcls.train("digits", tmp_path, **SETTINGS).step == 24


def test_a_config_is_a_path_a_config_or_a_dict(tmp_path):
    """All of them give the same config, and the caller's own is not changed."""
    expected = leaves(load("configs/digits.py"))
    assert leaves(read_config("digits")) == expected
    loaded = load("digits")
    assert leaves(read_config(loaded)) == expected and read_config(loaded) is not loaded
    mine = {"optim": {"learning_rate": 3}, "model": {"name": "vit", "depth": 2}}
    config = read_config(mine)
    assert config.optim.learning_rate == 3.0 and config.model.depth == 2
    assert mine == {"optim": {"learning_rate": 3}, "model": {"name": "vit", "depth": 2}}
    assert read_config(ConfigDict(mine)) == config
    with pytest.raises(ConfigError, match="config is a int"):
        read_config(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="learning_rat: unknown key; did you mean"):
        imgcls.train({"optim": {"learning_rat": 1e-3}}, tmp_path)
