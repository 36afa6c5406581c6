"""The same command on other machines is the same run: devices, meshes, processes."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgcls.runs.load import find_checkpoint
from tests import forking
from tests.conftest import REPO, command_env, command_line
from tests.distributed.pairs import Pair, free_port, place_flags

# A BatchNorm model whose loss falls by a fourteenth within 20 steps. Its branches start at zero:
# where they do not, training is chaotic, and rounding in the last bit grows to 2e-4 in the loss.
RECIPE = (
    "--config=configs/digits.py",
    "--config.total=20 steps",
    "--config.schedule.warmup=0 steps",
    "--config.schedule.name=constant",
    "--config.optim.learning_rate=0.1",
    "--config.batch_size=256",
    "--config.model.width=32",
    "--config.model.virtual_batch_size=32",
    "--config.model.stage_sizes=(1, 1)",
    "--config.data.train_transform=pad_crop(8, padding=1)",
    "--config.log.every=1 steps",
    "--config.checkpoint.keep_best=None",
)


def losses(workdir) -> np.ndarray:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return np.array([line["train/loss"] for line in lines if "train/loss" in line])


@pytest.fixture(scope="module")
def one_device(here, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one_device")
    done = here("main", *RECIPE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    curve = losses(workdir)
    assert len(curve) == 20 and curve[-1] < 0.95 * curve[0]
    return workdir


@pytest.fixture(scope="module")
def four_devices(here, tmp_path_factory):
    """Divided among four devices, with a checkpoint on the way."""
    workdir = tmp_path_factory.mktemp("four_devices")
    more = ("--config.mesh.fsdp=4", "--config.checkpoint.every=10 steps")
    done = here("main", *RECIPE, *more, f"--workdir={workdir}", devices=4)
    assert done.returncode == 0, done.stderr
    assert "4 cpu devices" in done.stdout
    return workdir


@pytest.mark.parametrize(
    "devices",
    [pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow), 8],
)
def test_loss_curve_is_the_same_on_more_devices(devices, here, one_device, tmp_path):
    done = here("main", *RECIPE, f"--workdir={tmp_path}", devices=devices)
    assert done.returncode == 0, done.stderr
    assert f"{devices} cpu devices" in done.stdout
    np.testing.assert_allclose(losses(tmp_path), losses(one_device), rtol=0, atol=1e-4)


def test_loss_curve_is_the_same_of_divided_parameters(four_devices, one_device):
    np.testing.assert_allclose(losses(four_devices), losses(one_device), rtol=0, atol=1e-4)


def test_two_processes_of_two_devices(cache, one_device, tmp_path):
    line = command_line("main", *RECIPE, f"--workdir={tmp_path / 'run'}")
    pair = Pair(tmp_path, cache, lambda *place: [*line, *place_flags(*place)], devices=2)
    assert pair.codes() == [0, 0], pair.output(0) + pair.output(1)
    assert "4 cpu devices" in pair.output(0) and "done: 20 steps" in pair.output(0), pair.output(0)
    assert "step 20/20" not in pair.output(1)  # only the first process logs
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(one_device), rtol=0, atol=1e-4)


def test_checkpoint_of_four_devices_continues_on_two(command, four_devices, one_device, tmp_path):
    """In a process that has only those two."""
    run = shutil.copytree(four_devices, tmp_path / "run")
    # As after a crash beyond step 10: its checkpoint is the newest.
    (newest := find_checkpoint(run).path).rename(tmp_path / "crashed")
    assert newest.name == "20" and find_checkpoint(run).step == 10
    more = ("--config.mesh.fsdp=2", "--config.checkpoint.every=10 steps")
    done = command("main", *RECIPE, *more, f"--workdir={run}", devices=2)
    assert done.returncode == 0, done.stderr
    assert "continue at step 10 of 20" in done.stdout
    np.testing.assert_allclose(losses(run), losses(one_device), rtol=0, atol=1e-4)


# Run by the test below in processes of their own: writes the rows of the global batches that this
# process's devices hold.
DUMP = """
import sys, numpy as np, jax
from imgcls.core import config
from imgcls.data import create as data
from imgcls.distributed import sharding
out, workers, address, count, index, *flags = sys.argv[1:]
if int(count) > 1:
    jax.distributed.initialize(address, int(count), int(index))
if __name__ == "__main__":
    c = config.load("configs/digits.py")
    c.batch_size, c.data.workers = 48, int(workers)
    config.override(c, flags)
    mesh = sharding.create_mesh(c)
    reader = data.create_reader(c, data.open_split(c, "train"), train=True)
    loader = data.create_train_loader(c, reader, mesh, 25, 35)
    rows = {}
    for step, batch in enumerate(loader, start=25):
        for key, value in batch.items():
            for shard in value.addressable_shards:
                first = shard.index[0].start or 0
                for row, x in enumerate(np.asarray(shard.data), start=first):
                    rows[f"{step}/{row}/{key}"] = x
    loader.close()
    np.savez(f"{out}/{index}.npz", **rows)
"""


IMAGES = ("--config.data.train_transform=pad_crop(8, padding=1)|flip|rand_augment(2, 10)",)


def dump_batches(
    folder, cache, flags=IMAGES, *, processes=1, devices=1, workers=0
) -> dict[str, np.ndarray]:
    folder.mkdir()
    script = folder / "dump.py"
    script.write_text(DUMP)
    address, env = f"localhost:{free_port()}", command_env(cache, devices)

    def dump(index: int) -> subprocess.CompletedProcess:
        place = map(str, (workers, address, processes, index))
        line = [sys.executable, script, folder, *place, *flags]
        return forking.run(line, env | {"PYTHONPATH": str(REPO)}, REPO, timeout=200)

    with ThreadPoolExecutor(processes) as pool:
        for done in pool.map(dump, range(processes)):
            assert done.returncode == 0 and "leaked" not in done.stderr, done.stderr
    parts = [dict(np.load(folder / f"{i}.npz")) for i in range(processes)]
    assert sum(len(p) for p in parts) == len(set().union(*parts))  # no row in two processes
    return {key: value for part in parts for key, value in part.items()}


def test_batches_are_equal_bit_for_bit(cache, tmp_path):
    """Steps 25 to 34 of 48 cross the end of the first epoch of 1,438."""
    expected = dump_batches(tmp_path / "one", cache)
    assert len(expected) == 10 * 48 * 4  # image, label, index, mask
    others = {
        "two processes": dict(processes=2, devices=2),
        "eight devices, three workers": dict(devices=8, workers=3),
    }
    for name, options in others.items():
        found = dump_batches(tmp_path / name.replace(" ", "_"), cache, **options)
        assert found.keys() == expected.keys(), name
        for key, value in expected.items():
            assert found[key].dtype == value.dtype, (name, key)
            np.testing.assert_array_equal(found[key], value, err_msg=f"{name} {key}")
