"""A PostgreSQL server, and a small sweep that trains in seconds."""

import pytest

from tests.studio import postgres

# A grid of four runs that differ clearly.
SPACE = ("optim.learning_rate=choice(0.0005,0.05)", "seed=range(2)")
SMALL = {
    "model.width": 8,
    "model.stage_sizes": (1,),
    "model.virtual_batch_size": 64,
    "log.tensorboard": False,
}


@pytest.fixture(scope="session")
def new_postgres():
    """`new_postgres()` makes an empty database of PostgreSQL and returns its URL."""
    with postgres.running() as make:
        yield make


def flags(total: int, every: int) -> list[str]:
    """Flags of a config of `total` steps that is evaluated and saved after every `every`."""
    keys = SMALL | {
        "total": f"{total} steps",
        "evaluators.test.every": f"{every} steps",
        "checkpoint.every": f"{every} steps",
    }
    return [f"--config.{key}={value}" for key, value in keys.items()]
