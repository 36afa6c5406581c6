"""Losses and gradients that are not finite: skipped updates, going back, and the end of the run.

Some examples are poisoned: a batch with one of them has a loss of NaN.
"""

import contextlib
import functools
import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

import imgcls.train.loop
import imgcls.train.setup
from imgcls.core import config as config_lib
from imgcls.core import defaults
from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError, TrainingError
from imgcls.data import create as data_lib
from imgcls.data.info import DataInfo
from imgcls.data.loading.order import example_at
from imgcls.distributed import sharding
from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.norm import BatchNorm
from imgcls.objectives import objective as objectives_objective
from imgcls.objectives.create import create_objective
from imgcls.objectives.supervised import Supervised
from imgcls.runs.record import Record, Stretch
from imgcls.runs.save import Checkpointer
from imgcls.train import optim
from imgcls.train.nonfinite import PendingMetrics, Rollback
from imgcls.train.step import create_state, make_train_step
from tests.conftest import make_mesh
from tests.end_to_end.test_resume import final_state, training_curve

# The training split of the digits.
EXAMPLES = 1438
BATCH = 16


class Small(ImageModel):
    """A model that compiles fast and has batch statistics."""

    @nn.compact
    def __call__(self, x, *, train=False, features=False):
        x = nn.Dense(4)(x.reshape(len(x), -1))
        return nn.Dense(self.num_classes)(BatchNorm(virtual_batch_size=2)(x, train=train))


class Poisoned(Supervised):
    """Supervised, but everything from a batch with a poisoned example is NaN."""

    def __init__(self, config, data_info, poison=(), **options):
        super().__init__(config, data_info, **options)
        self.model = Small(self.num_outputs)
        self._poison = np.array(poison, np.int32)

    def loss(self, params, model_state, target, batch, rng, step):
        loss, (model_state, metrics) = super().loss(params, model_state, target, batch, rng, step)
        factor = jnp.where(jnp.isin(batch["index"], self._poison).any(), math.nan, 1.0)
        poisoned = jax.tree.map(lambda x: x * factor, (model_state, metrics))
        return loss * factor, poisoned


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(objectives_objective.OBJECTIVES._parts, "poisoned", Poisoned)


def first_of_batches(*batches: int) -> tuple[int, ...]:
    """Examples that poison only these batches; step s trains on batch s - 1."""
    return tuple(example_at(0, batch * BATCH, EXAMPLES) for batch in batches)


def make_config(*bad_batches: int, **changes) -> ConfigDict:
    c = defaults.default_config()
    c.total, c.batch_size = "24 steps", BATCH
    c.model.virtual_batch_size = 2
    c.objective.update(name="poisoned", poison=first_of_batches(*bad_batches))
    c.ema = 0.9
    c.data.channels = 1
    c.data.eval_transform = "resize((8, 8))"
    c.data.mean, c.data.std = (0.3,), (0.4,)
    c.optim.name, c.optim.learning_rate = "adamw", 0.01
    c.schedule.warmup = "5 steps"
    c.checkpoint.every = "5 steps"
    c.log.every, c.log.tensorboard = "4 steps", False
    c.compile_cache = ""
    return config_lib.override(c, [f"--config.{k}={v}" for k, v in changes.items()])


class Loop:
    """Runs the step of a config on chosen batches, as a reference for full runs."""

    def __init__(self, config: ConfigDict, mesh=None):
        self.config, self.mesh = config, mesh or make_mesh(data=8)
        source = data_lib.open_split(config, "train")
        self.reader = data_lib.create_reader(config, source, train=True)
        self.info = DataInfo(tuple(source.class_names), False, (8, 8, 1))
        objective = create_objective(config, self.info)
        spec = {"image": jax.ShapeDtypeStruct((BATCH, 8, 8, 1), jnp.uint8)}
        params, _ = jax.eval_shape(lambda: objective.init(jax.random.key(0), spec))
        optimizer, schedule = optim.create_optimizer(config, Durations(config, EXAMPLES), params)
        fresh = functools.partial(create_state, objective, optimizer, config.seed, spec)
        placement = sharding.partition(jax.eval_shape(fresh), self.mesh, config.mesh.rules)
        self.state = jax.jit(fresh, out_shardings=placement)()
        parts = (objective, optimizer, schedule, [], config, self.mesh, placement)
        self.step = make_train_step(*parts)

    def run(self, first: int, last: int) -> list[dict]:
        """Trains on the batches from `first` to `last - 1`; returns the metrics."""
        metrics_by_step = []
        loader = data_lib.create_train_loader(self.config, self.reader, self.mesh, first, last)
        with contextlib.closing(loader):
            for batch in loader:
                self.state, metrics = self.step(self.state, batch)
                metrics_by_step.append({key: float(value) for key, value in metrics.items()})
        return metrics_by_step

    def skip(self, steps: int) -> None:
        """Advances only the state that depends on the step number."""

        def advance(x):
            return x._replace(count=x.count + steps) if is_schedule(x) else x

        def is_schedule(x):
            return isinstance(x, optax.ScaleByScheduleState)

        opt_state = jax.tree.map(advance, self.state.opt_state, is_leaf=is_schedule)
        self.state = self.state.replace(step=self.state.step + steps, opt_state=opt_state)

    def assert_is(self, workdir) -> None:
        """Asserts that the newest checkpoint has exactly this state."""
        checkpointer = Checkpointer(str(workdir), self.config, self.info)
        with contextlib.closing(checkpointer):
            zeros = jax.tree.map(jnp.zeros_like, self.state)
            restored = checkpointer.restore(zeros, checkpointer.latest_step)
        jax.tree.map(np.testing.assert_array_equal, restored, self.state)


def lines_of(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


class Crash(Exception):
    pass


@pytest.fixture
def crash_at(monkeypatch):
    """Makes the next run crash at a step, once for each step that is passed."""

    def at(*steps: int) -> None:
        left = list(steps)

        def progress(self, step):
            if left and step == left[0]:
                left.pop(0)
                raise Crash

        monkeypatch.setattr(imgcls.train.loop.Writer, "progress", progress)

    return at


# ---- On the host.


def feed(pending: PendingMetrics, losses, start: int = 1) -> None:
    for step, loss in enumerate(losses, start):
        metrics = {"loss": loss, "grad_norm": 1.0, "learning_rate": 0.25}
        pending.add(step, {key: np.float32(value) for key, value in metrics.items()})


def make_pending(skip: int, rollback: bool = False, **record) -> PendingMetrics:
    config = defaults.default_config()
    config.guard.skip, config.guard.rollback = skip, rollback
    return PendingMetrics(config, Record(**record))


def test_counts_in_a_row(capsys):
    pending = make_pending(skip=2)
    feed(pending, [1, math.nan, math.inf, 2, math.nan, 3])
    assert pending.check_all()["skipped_updates"] == 3
    assert pending.record == Record(skipped=3, in_a_row=0)
    output = capsys.readouterr().out.splitlines()
    assert len(output) == 2
    assert "step 2: loss is nan at learning rate 0.25; the update is skipped" in output[0]
    assert "step 5: " in output[1]
    feed(pending, [math.nan, math.nan, math.nan, 1], start=7)
    with pytest.raises(TrainingError, match="step 9: loss is nan .* after 2 updates in a row"):
        pending.check_all()


def test_no_update_is_skipped_by_default():
    with pytest.raises(TrainingError) as e:
        feed(make_pending(skip=0), [*range(30), math.inf, 1, 1, 1])
    output = str(e.value)
    assert "step 31: loss is inf at learning rate 0.25" in output and "\n" not in output
    assert "the last losses were " + " ".join(map(str, range(11, 30))) + " inf;" in output


@pytest.mark.parametrize("lag", [1, 2, 3, 4])
def test_stretch_does_not_depend_on_when_the_host_checks(lag):
    """The stretch begins before the checkpoint from which the run continues."""
    pending = make_pending(skip=4, rollback=True, skipped=7, in_a_row=2)
    with pytest.raises(Rollback) as e:
        for step in range(11, 18):
            feed(pending, [math.nan], start=step)
            if step % lag == 0:
                pending.check_all()
    assert e.value.stretch == Stretch(first=9, last=13)


def test_goes_back_once_only():
    with pytest.raises(TrainingError, match="after the run went back once"):
        feed(make_pending(skip=0, rollback=True, shift=3), [math.nan] * 3)


def test_wrong_setting(tmp_path):
    with pytest.raises(ConfigError, match=r"config.guard.skip=-1: must be 0 or more"):
        imgcls.train.setup.set_up(make_config(**{"guard.skip": -1}), str(tmp_path), False)


# ---- Inside the step.


def test_step_without_guard_has_no_check():
    def operations(skip: int) -> set:
        loop = Loop(make_config(3, **{"guard.skip": skip}))
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), loop.state)
        loader = data_lib.create_train_loader(loop.config, loop.reader, loop.mesh, 0, 1)
        with contextlib.closing(loader):
            (batch,) = loader
        text = loop.step.lower(shapes, batch).as_text()
        return {word for word in ("is_finite",) if word in text}

    assert operations(0) == set() and operations(1) == {"is_finite"}


@pytest.mark.parametrize("devices", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_skipped_update(devices):
    """With accumulation and lookahead; afterwards the learning rate is that of the step number."""
    changes = {"guard.skip": 3, "accumulate": 2, "optim.lookahead.every": 2}
    loop = Loop(make_config(1, 2, **changes), make_mesh(data=devices))
    (first,) = loop.run(0, 1)
    before = jax.device_get(loop.state)
    metrics = loop.run(1, 3)
    assert all(math.isnan(m["loss"]) and math.isnan(m["grad_norm"]) for m in metrics)
    after = jax.device_get(loop.state)
    assert int(after.step) == 3 and int(after.opt_state.step) == 3
    counts = {int(x) for x in jax.tree.leaves(after.opt_state) if x.ndim == 0}
    assert counts == {1, 3}  # of the moments, of the schedule and lookahead
    for part in ("params", "model_state", "target"):
        same = jax.tree.map(np.array_equal, getattr(before, part), getattr(after, part))
        assert all(jax.tree.leaves(same)), part
    (last,) = loop.run(3, 4)
    assert last["learning_rate"] == pytest.approx(4 * first["learning_rate"])
    assert math.isfinite(last["loss"]) and loop.step._cache_size() == 1


# ---- Whole runs.


@pytest.mark.slow
def test_skipped_batches_have_no_effect(tmp_path, capsys):
    config = make_config(6, 7, 15, **{"guard.skip": 2})
    imgcls.train.loop.train(config, str(tmp_path))
    loop = Loop(config)
    loop.run(0, 6)
    loop.skip(2)
    loop.run(8, 15)
    loop.skip(1)
    loop.run(16, 24)
    loop.assert_is(tmp_path)
    counted = {x["step"]: x.get("train/skipped_updates", 0) for x in lines_of(tmp_path)}
    assert counted == {4: 0, 8: 2, 12: 2, 16: 3, 20: 3, 24: 3}
    assert capsys.readouterr().out.count("the update is skipped") == 2


@pytest.mark.slow
@pytest.mark.parametrize("resident", [False, True])
def test_goes_back_and_continues_with_new_data(resident, tmp_path, monkeypatch, capsys):
    """Two updates may be skipped; the third in a row is step 13.

    The newest good checkpoint is that of step 5, as the step after 10 was not finite.
    """
    asked, create = [], imgcls.train.loop.create_train_loader

    def recording(config, reader, mesh, first, last):
        asked.append((first, last))
        return create(config, reader, mesh, first, last)

    monkeypatch.setattr(imgcls.train.loop, "create_train_loader", recording)
    changes = {"guard.skip": 2, "guard.rollback": True, "data.device_resident": resident}
    config = make_config(10, 11, 12, **changes)
    imgcls.train.loop.train(config, str(tmp_path))
    loop = Loop(config)
    loop.run(0, 5)
    loop.run(13, 32)
    loop.assert_is(tmp_path)
    assert asked == [(0, 24), (13, 32)]
    assert [x["step"] for x in lines_of(tmp_path)] == [4, 8, 12, 16, 20, 24]
    assert all("train/skipped_updates" not in x for x in lines_of(tmp_path))
    output = capsys.readouterr().out
    assert "step 13: loss is nan" in output and "continue at step 5 of 24" in output
    checkpointer = Checkpointer(str(tmp_path), make_config(), DataInfo((), False, (8, 8, 1)))
    assert checkpointer.record(checkpointer.latest_step).shift == 8
    checkpointer.close()


@pytest.mark.slow
def test_goes_back_to_the_start(tmp_path):
    config = make_config(2, **{"guard.rollback": True})
    imgcls.train.loop.train(config, str(tmp_path))
    loop = Loop(config)
    loop.run(3, 27)
    loop.assert_is(tmp_path)


@pytest.mark.slow
def test_crashes_before_and_after_going_back(tmp_path, crash_at):
    """Crashes among skipped updates, and before and after the first checkpoint after going back."""
    config = make_config(10, 11, 12, **{"guard.skip": 2, "guard.rollback": True})
    crash_at(12)
    with pytest.raises(Crash):
        imgcls.train.loop.train(config, str(tmp_path))
    # Step 13 comes before the run goes back.
    crash_at(13, 8)
    with pytest.raises(Crash):
        imgcls.train.loop.train(config, str(tmp_path))
    crash_at(15, 13)
    with pytest.raises(Crash):
        imgcls.train.loop.train(config, str(tmp_path))
    crash_at()
    imgcls.train.loop.train(config, str(tmp_path))
    loop = Loop(config)
    loop.run(0, 5)
    loop.run(13, 32)
    loop.assert_is(tmp_path)


def test_second_stretch_ends_the_run(tmp_path):
    """Two stretches, and the files that the failed run leaves."""
    config = make_config(10, 11, 18, 19, **{"guard.skip": 1, "guard.rollback": True})
    with pytest.raises(TrainingError) as e:
        imgcls.train.loop.train(config, str(tmp_path))
    # From step 5 on, with a shift of 7.
    assert "step 13: loss is nan at learning rate 0.0" in str(e.value)
    losses = str(e.value).split("the last losses were ")[1].split(";")[0].split()
    assert len(losses) == 8 and losses[-2:] == ["nan", "nan"]
    values = list(final_state(tmp_path).values())
    assert values and all(np.isfinite(value).all() for value in values)
    assert [x["step"] for x in training_curve(tmp_path)] == [4, 8, 12]
