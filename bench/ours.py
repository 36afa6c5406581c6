"""Our side of the comparisons: the trainer's step on a fixed batch."""

import tempfile
from collections.abc import Callable

import jax
from images import draw_folder
from ml_collections import ConfigDict

from imgcls.core.config import merge
from imgcls.core.defaults import default_config
from imgcls.data.create import create_train_loader
from imgcls.train.setup import set_up


def create_config(folder: str, model: dict, batch_size: int, size: int, optim: dict) -> ConfigDict:
    """Returns a config that trains a model on class folders.

    Args:
      folder: directory with `train/CLASS/*`.
      model: section `model` of the config.
      batch_size: images per step.
      size: side of the images in pixels.
      optim: section `optim` of the config.
    """
    changes = ConfigDict(dict(total="100 epochs", batch_size=batch_size, model=model, optim=optim))
    changes.data = ConfigDict(dict(source=f"folder:{folder}", on_error="fail"))
    changes.data.train_transform = f"resize(({size}, {size}))"
    changes.data.eval_transform = f"resize(({size}, {size}))"
    changes.compile_cache = ""
    return merge(default_config(), changes)


def create_step(model: dict, batch_size: int, size: int, classes: int, optim: dict) -> Callable:
    """Returns `run(n)`, which runs n training steps on one synthetic batch and waits for them."""
    with tempfile.TemporaryDirectory() as folder:
        config = create_config(
            draw_folder(f"{folder}/images", classes), model, batch_size, size, optim
        )
        run = set_up(config, f"{folder}/run", accept_changes=False)
        loader = create_train_loader(config, run.reader, run.mesh, 0, 1)
        (batch,) = loader
        loader.close()
        run.checkpointer.close()
    state = run.state.result()

    def steps(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, metrics = run.step_fn(state, batch)
        jax.block_until_ready((state, metrics))

    return steps
