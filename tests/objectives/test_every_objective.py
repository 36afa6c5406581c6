"""Every registered objective trains, resumes and is evaluated in the training loop."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.core import config as config_lib
from imgcls.core.errors import ConfigError
from imgcls.data.info import DataInfo
from imgcls.objectives.create import create_objective
from imgcls.objectives.objective import list_objectives
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import load_trained
from imgcls.train.loop import train
from tests.conftest import REPO
from tests.end_to_end.test_resume import final_state

# Config keys that an objective needs besides its name.
NEEDS = {
    "byol": {"data.views": "two", "objective.hidden": 32, "objective.features": 16},
    "denoise": {
        "objective.blur": 0.5,
        "objective.shuffle": 2,
        "objective.width": 16,
        "optim.learning_rate": 0.01,
    },
    "inpaint": {
        "objective.region": "random",
        "objective.width": 16,
        "optim.learning_rate": 0.01,
    },
    "mae": {
        "model": dict(name="vit_ti2", width=32, depth=1, num_heads=2, mlp_dim=64),
        "objective.decoder_width": 32,
        "objective.decoder_depth": 1,
        "objective.decoder_heads": 2,
        "optim.name": "adamw",
        "optim.learning_rate": 0.001,
    },
    "pairwise": {"data.views": "pairs"},
    "simclr": {"data.views": "two", "objective.hidden": 32},
    "supcon": {"data.views": "two", "objective.hidden": 32},
}


def make_config(name: str, *overrides: str):
    config = config_lib.load(str(REPO / "configs" / "digits.py"))
    config.update(total="20 steps", batch_size=64)
    config.model = dict(
        name="resnet18", stem="cifar", width=8, stage_sizes=(1,), virtual_batch_size=8
    )
    config.objective = dict(name=name)
    config.data.train_transform = "pad_crop(8, padding=1)"
    config.schedule.warmup = "2 steps"
    config.checkpoint.update(every="10 steps", keep_best=None)
    config.log.update(every="5 steps", tensorboard=False)
    config.model.dtype = "float32"
    config.evaluators = dict(knn=dict(type="knn", k=20, every="20 steps"))
    needs = NEEDS.get(name, {}) | ({} if name == "supervised" else {"objective.probe": True})
    for key, value in needs.items():
        if key == "model":
            config.model = value | {"dtype": "float32"}
    config_lib.override(
        config, [f"--config.{k}={v}" for k, v in needs.items() if k != "model"] + list(overrides)
    )
    return config


# The slowest objectives, which share most of their code with others.
SLOW = ("mae", "denoise", "supcon")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in list_objectives()
    ],
)
def test_objective_trains_and_resumes(name, cache, tmp_path, capsys):
    config = make_config(name, f"--config.compile_cache={cache}")
    results = train(config, str(tmp_path))
    # Ten classes; features of an untrained network reach about this.
    assert results["knn/accuracy"] > 0.4
    assert 0 < results["knn/feature_std"] < 1
    expected = final_state(tmp_path)
    assert int(expected["['step']"]) == 20

    # As after a crash later than step 10.
    shutil.rmtree(tmp_path / "checkpoints" / "20")
    again = train(config, str(tmp_path))
    assert "continue at step 10 of 20" in capsys.readouterr().out
    assert again == results
    resumed = final_state(tmp_path)
    assert resumed.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(resumed[key], value, err_msg=key)
    if name in ("simclr", "mae"):
        check_fine_tuning(config, str(tmp_path), str(tmp_path / "finetuned"))
        assert "new: head (10 classes)" in capsys.readouterr().out


def check_fine_tuning(config, pretrained: str, finetuned: str) -> None:
    """A supervised run starts from the backbone, and stays there at a learning rate of 0."""
    config.objective = dict(name="supervised")
    config.data.views = "one"
    config.total, config.optim.learning_rate, config.init_from = "1 steps", 0.0, pretrained
    train(config, finetuned)
    before, after = (load_trained(find_checkpoint(path)) for path in (pretrained, finetuned))
    assert {"backbone", "probe"} < before.params.keys()
    assert after.params.keys() - before.params["backbone"].keys() == {"head"}
    for key, value in before.params["backbone"].items():
        jax.tree.map(np.testing.assert_array_equal, after.params[key], value)


INFO = DataInfo(tuple("0123456789"), False, (8, 8, 1), 1_437)


def make_batch(views: int = 1, rows: int = 32) -> dict:
    """Normalized images with labels."""
    rng = np.random.default_rng(0)
    images = {key: rng.normal(size=(rows, 8, 8, 1)) for key in ("image", "image2")[:views]}
    batch = {key: jnp.asarray(image, jnp.float32) for key, image in images.items()}
    return {**batch, "label": jnp.asarray(rng.integers(0, 10, rows))}


def gradients(name: str, probe: bool) -> dict:
    objective = create_objective(make_config(name, f"--config.objective.probe={probe}"), INFO)
    assert hasattr(objective, "logits") == probe
    batch = make_batch(views=1 if name == "mae" else 2)
    params, state = objective.init(jax.random.key(0), {"image": batch["image"]})

    def loss(params):
        return objective.loss(params, state, None, batch, jax.random.key(1), 3)[0]

    return jax.jit(jax.grad(loss))(params)


@pytest.mark.parametrize("name", ["simclr", pytest.param("mae", marks=pytest.mark.slow)])
def test_probe_gives_the_network_no_gradient(name):
    """The gradients of the network are the same with and without a probe."""
    with_probe, without = gradients(name, True), gradients(name, False)
    assert jnp.abs(with_probe.pop("probe")["kernel"]).max() > 1e-3
    assert with_probe.keys() == without.keys()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), with_probe, without
    )


@pytest.mark.parametrize(
    "name, overrides, message",
    [
        ("simclr", ["--config.data.views=one"], "takes 'two'; write data.views='two'"),
        ("pairwise", ["--config.data.views=two"], "takes 'pairs'"),
        ("triplet", ["--config.objective.mining=given"], "takes 'triplets'"),
        ("triplet", ["--config.objective.mining=semihard"], "did you mean 'semi-hard'"),
        ("simclr", ["--config.accumulate=2"], "can't be split; set accumulate=1"),
        ("supcon", ["--config.ema=0.9"], "does not support EMA"),
        ("byol", ["--config.objective.tau=1.5"], "config.objective.tau=1.5: must be from 0 to 1"),
        ("byol", ["--config.objective.loss=l1"], "valid: cosine, mse"),
        ("mae", ["--config.model.name=resnet18"], "mae needs a ViT"),
        ("mae", ["--config.objective.decoder_heads=3"], "does not divide decoder_width=32"),
        ("mae", ["--config.objective.mask_ratio=0.99"], "leaves 0 of 16 patches visible"),
        ("inpaint", ["--config.objective.region=top"], "valid: center, random"),
        ("inpaint", ["--config.objective.fraction=0.0"], "must be above 0"),
        ("denoise", ["--config.objective.noise=-0.1"], "must be 0 or more"),
        ("denoise", ["--config.objective.shuffle=3"], "does not divide images of 8x8"),
    ],
)
def test_mistakes(name, overrides, message):
    config = make_config(name, *overrides)
    if "--config.model.name=resnet18" in overrides:
        config.model = dict(name="resnet18", width=8, stage_sizes=(1, 1))
    with pytest.raises(ConfigError, match=message):
        create_objective(config, INFO)
