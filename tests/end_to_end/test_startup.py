"""The start of a run: what it imports, and that a second start uses cached programs."""

import json
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core import config as config_lib
from imgcls.core import defaults
from imgcls.core.errors import EXIT_AGAIN
from imgcls.data.info import DataInfo
from imgcls.objectives.create import create_objective
from imgcls.train import compile_cache as programs_lib
from imgcls.train.compile_cache import KEEP, Programs
from tests.conftest import REPO, command_env, command_line, make_mesh

# Modules of other commands, of the end of a run, or of other data sources.
LATER = "tensorflow torch matplotlib sklearn scipy pandas cleanlab selenium tensorboardX"

RUN = (
    "--config=configs/digits.py",
    "--config.total=2 steps",
    "--config.log.every=1 steps",
    "--config.model.width=8",
    "--config.model.stage_sizes=(1,)",
    "--config.evaluators.test.split=test[:64]",
)

# The training command, which then says what JAX did.
COUNT = """
import collections, json, sys
from jax import monitoring
from imgcls import main
traced, events = [], collections.Counter()
monitoring.register_event_listener(lambda name, **kw: events.update([name.split("/")[-1]]))
monitoring.register_event_duration_secs_listener(
    lambda name, _, **kw: "jaxpr_trace" in name and traced.append(kw.get("fun_name")))
main.main(sys.argv[1:])
print(json.dumps({"traced": traced, "misses": events["cache_misses"]}))
"""


def python(code: str, cache: str, *args: str) -> list[str]:
    """Runs a program; returns the lines that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=command_env(cache),
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_nothing_is_imported_before_it_is_needed(tmp_path):
    code = f"""
import os, sys
from imgcls import main
from imgcls.core import config
from imgcls.train import setup
settings = config.load("configs/digits.py")
setup.set_up(settings, {str(tmp_path / "run")!r}, False)
print(*(name for name in {LATER!r}.split() if name in sys.modules), flush=True)
os._exit(0)  # not to wait for the programs
"""
    assert python(code, str(tmp_path))[-1] == ""


def count(cache, workdir, *options: str) -> dict:
    """What JAX did in a run, with the losses that it logged."""
    lines = python(COUNT, str(cache), *RUN, *options, f"--workdir={workdir}")
    assert any("first step after" in line for line in lines)
    written = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    losses = [line["train/loss"] for line in written if "train/loss" in line]
    return json.loads(lines[-1]) | {"losses": losses}


@pytest.fixture(scope="module")
def first_start(tmp_path_factory):
    """The cache that the first start of a run leaves, and what JAX did in it."""
    folder = tmp_path_factory.mktemp("first")
    return folder / "cache", count(folder / "cache", folder / "run")


def test_second_start_neither_traces_nor_compiles(first_start, tmp_path):
    cache, first = first_start
    files = {p: p.read_bytes() for p in cache.rglob("*") if p.is_file()}
    second = count(cache, tmp_path / "run")
    assert "train_step" in first["traced"] and "train_step" not in second["traced"]
    assert first["misses"] > 0 and second["misses"] == 0
    assert files == {p: p.read_bytes() for p in cache.rglob("*") if p.is_file()}
    assert first["losses"] == second["losses"]


@pytest.mark.slow
def test_programs_from_the_cache_of_jax_are_not_stored(first_start, tmp_path):
    """Another config with the same program, whose functions would be missing if stored again."""
    cache, first = first_start
    for number in range(2):
        again = count(cache, tmp_path / str(number), "--config.data.threads=1")
        assert again["losses"] == first["losses"]


def test_sigterm_while_the_step_is_compiled(tmp_path):
    """It ends the run soon, as there is nothing to save yet."""
    process = subprocess.Popen(
        command_line("main", *RUN, f"--workdir={tmp_path / 'run'}"),
        env=command_env(str(tmp_path)),
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "parameters) on" in line:
            time.sleep(0.3)  # the set-up is over; the programs take seconds
            process.send_signal(signal.SIGTERM)
    assert process.wait() == EXIT_AGAIN, "".join(lines)
    assert "SIGTERM before the first step; type the same command again" in lines[-1]


def make_programs(folder, devices: int = 1, **changes) -> Programs:
    config = defaults.default_config()
    config.model.name, config.compile_cache = "resnet18", str(folder)
    config = config_lib.override(config, [f"--config.{k}={v}" for k, v in changes.items()])
    info = DataInfo(("a", "b"), False, (8, 8, 3))
    return Programs(config, info, create_objective(config, info), make_mesh(devices))


def halve():
    """A jitted function that donates its argument and is not in JAX's cache, and its traces."""
    traces, salt = [], np.random.default_rng().random()

    def fn(x):
        traces.append(x.shape)
        return x / 2 + jnp.float32(salt) * 0

    return jax.jit(fn, donate_argnums=0), traces


def test_cached_program_gives_the_same_results(tmp_path):
    """The same values and shardings on a mesh, and a donated argument."""
    mesh = make_mesh(data=4)
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    first, second = halve(), halve()
    for fn, _ in (first, second):
        x = jax.device_put(np.arange(8.0, dtype=np.float32), sharding)
        program = make_programs(tmp_path, 4).compile("halve", fn, x)
        y = program(x)
        assert x.is_deleted() and y.sharding == sharding
        np.testing.assert_array_equal(y, np.arange(8) / 2)
    assert len(first[1]) == 1 and second[1] == []


@pytest.mark.parametrize(
    "changes, shape, cached",
    [
        ({"log.every": "3 steps", "checkpoint.keep_last": 9}, (4,), True),
        ({"optim.learning_rate": 0.2}, (4,), False),
        ({"seed": 1}, (4,), False),
        ({}, (5,), False),
    ],
)
def test_key_depends_on_config_and_shapes(tmp_path, changes, shape, cached):
    make_programs(tmp_path).compile("halve", halve()[0], jnp.ones(4))
    fn, traces = halve()
    make_programs(tmp_path, **changes).compile("halve", fn, jnp.ones(shape))
    assert bool(traces) is not cached


def test_key_depends_on_source_and_settings(tmp_path, monkeypatch):
    key_base = make_programs(tmp_path)._key_base
    with monkeypatch.context() as patched:
        patched.setattr(programs_lib, "source_digest", lambda: "edited")
        assert make_programs(tmp_path)._key_base != key_base
    with monkeypatch.context() as patched:
        patched.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
        assert make_programs(tmp_path)._key_base != key_base
    assert make_programs(tmp_path)._key_base == key_base


def test_damaged_program_is_compiled_again(tmp_path):
    make_programs(tmp_path).compile("halve", halve()[0], jnp.ones(4))
    (path,) = (tmp_path / "programs").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    fn, traces = halve()
    assert make_programs(tmp_path).compile("halve", fn, jnp.ones(4))(jnp.ones(4))[0] == 0.5
    assert traces and len(path.read_bytes()) > 100


def test_old_programs_are_deleted_and_foreign_ones_not_stored(tmp_path):
    folder = tmp_path / "programs"
    folder.mkdir()
    for number in range(KEEP + 5):
        (folder / f"old-{number}").touch()
    make_programs(tmp_path).compile("halve", halve()[0], jnp.ones(4))
    assert len(list(folder.iterdir())) == KEEP and list(folder.glob("halve-*"))
    config = defaults.default_config()
    config.model.name, config.compile_cache = "resnet18", str(tmp_path / "other")
    info = DataInfo(("a", "b"), False, (8, 8, 3))
    objective = create_objective(config, info)
    foreign = type("Foreign", (type(objective),), {"__module__": "mine"})(config, info)
    Programs(config, info, foreign, make_mesh()).compile("halve", halve()[0], jnp.ones(4))
    assert not (tmp_path / "other").exists()
