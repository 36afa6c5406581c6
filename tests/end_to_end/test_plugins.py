"""Parts from a file outside of the package: trained with, resumed, and used from the checkpoint."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.test_resume import final_state, training_curve

PLUGIN = """
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from imgcls.data.sources.digits import DigitsSource
from imgcls.data.sources.source import Dataset, register_source
from imgcls.data.transforms.transform import register_transform
from imgcls.evaluate.evaluator import register_evaluator
from imgcls.losses import register_loss, softmax_cross_entropy
from imgcls.models import register_model
from imgcls.models.layers.base import ImageModel


@register_model("tiny_mlp", hidden=16)
class TinyMLP(ImageModel):
    hidden: int = 8

    @nn.compact
    def __call__(self, x, *, train=False, features=False):
        x = nn.relu(nn.Dense(self.hidden, name="fc")(x.reshape(len(x), -1)))
        return x if features else nn.Dense(self.num_classes, name="head")(x)


@register_loss("squared_softmax", task="softmax", ranges={"power": (1, 3)})
def squared_softmax(logits, labels, power=2.0):
    return softmax_cross_entropy(logits, labels) ** power


@register_transform("dim")
def dim(low=0.5):
    def transform(image, rng):
        return (image * rng.uniform(low, 1)).astype(np.uint8)

    return transform


@register_source("some_digits", "CLASSES")
def open_some_digits(path, options):
    return Dataset(("train", "test"), lambda split: Some(split, options.seed, int(path)))


class Some(DigitsSource):
    def __init__(self, split, seed, classes):
        super().__init__(split, seed)
        kept = self._labels < classes
        self._images, self._labels, self._ids = (
            a[kept] for a in (self._images, self._labels, self._ids)
        )
        self.class_names = tuple(map(str, range(classes)))


@register_evaluator("logit_size")
class LogitSize:
    \"\"\"The size of the head's kernel.\"\"\"

    directions = {"norm": "lower"}

    def __init__(self, config, objective, mesh, data_info, power: float = 1.0):
        self.power, self.protocol = power, "logit_size: norm of the head's kernel"

    def run(self, variables):
        return {
            f"{prefix}norm": float(jnp.linalg.norm(params["head"]["kernel"]) ** self.power)
            for prefix, (params, _) in variables.items()
        }
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    file = tmp_path_factory.mktemp("elsewhere") / "parts.py"
    file.write_text(PLUGIN)
    return file


CONFIG = """
from ml_collections import ConfigDict


def get_config():
    c = ConfigDict(dict(total="10 steps", batch_size=32, plugins=("parts.py",)))
    c.model = ConfigDict(dict(name="tiny_mlp"))
    c.objective = ConfigDict(dict(name="supervised", loss="squared_softmax", power=1.5))
    c.data = ConfigDict(dict(source="some_digits:4", train_transform="dim(0.8)", channels=1))
    c.data.mean, c.data.std = (0.3,), (0.4,)
    size = dict(type="logit_size", power=2.0, every="5 steps")
    c.evaluators = ConfigDict(dict(test=dict(split="test"), size=size))
    c.checkpoint = ConfigDict(dict(every="5 steps"))
    return c
"""


@pytest.fixture(scope="module")
def recipe(plugin) -> list[str]:
    file = plugin.with_name("config.py")
    file.write_text(CONFIG.replace("parts.py", str(plugin)))
    return [f"--config={file}"]


@pytest.fixture(scope="module")
def whole(command, recipe, tmp_path_factory):
    """The workdir of a run from start to end."""
    workdir = tmp_path_factory.mktemp("whole")
    done = command("main", *recipe, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "tiny_mlp" in done.stdout and "size/norm" in done.stdout
    return workdir


def assert_same_state(one, other):
    one, other = final_state(one), final_state(other)
    assert one.keys() == other.keys()
    for path, array in one.items():
        np.testing.assert_array_equal(array, other[path], err_msg=str(path))


def test_a_run_with_parts_of_its_own(command, recipe, whole, tmp_path):
    """Threads or worker processes, and then in fresh processes from the checkpoint."""
    workers = tmp_path / "workers"
    by_workers = command("main", *recipe, f"--workdir={workers}", "--config.data.workers=1")
    assert by_workers.returncode == 0, by_workers.stderr
    assert_same_state(whole, workers)

    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / "x.png")
    said = command("predict", f"--checkpoint={whole}", str(tmp_path / "x.png"))
    assert said.returncode == 0, said.stderr
    found = {each["class"] for each in json.loads(said.stdout)["predictions"]}
    assert found == set("0123")
    measured = command("evaluate", f"--workdir={whole}")
    assert "size/norm" in json.loads(measured.stdout), measured.stderr


def test_a_continued_run_ends_in_the_same_bits(command, recipe, whole, tmp_path):
    parts = shutil.copytree(whole, tmp_path / "parts")
    newest = max((parts / "checkpoints").iterdir(), key=lambda p: int(p.name))
    newest.rename(parts / "taken_away")
    done = command("main", *recipe, f"--workdir={parts}")
    assert "continue at step 5 of 10" in done.stdout, done.stderr
    assert_same_state(whole, parts)
    assert training_curve(whole) == training_curve(parts)


def test_a_missing_plugin_is_one_line(command, recipe, plugin, whole, tmp_path):
    picture = tmp_path / "x.png"
    Image.new("L", (8, 8)).save(picture)
    moved = plugin.rename(plugin.with_name("moved.py"))
    try:
        for done in (
            command("main", *recipe, f"--workdir={tmp_path / 'other'}"),
            command("predict", f"--checkpoint={whole}", str(picture)),
        ):
            assert done.returncode == 2
            assert done.stderr.splitlines()[-1] == (
                f"error: config.plugins: {plugin}: no such file; restore it, or change this key"
            )
    finally:
        moved.rename(plugin)
