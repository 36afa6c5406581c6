"""One process of a pair that trains on poisoned batches:

python -m tests.faults.poisoned ADDRESS INDEX WORKDIR SKIP ROLLBACK BATCH ...
"""

import os
import sys

from imgcls.core import cli
from imgcls.distributed import processes
from imgcls.distributed.cluster import Place
from imgcls.objectives import objective
from imgcls.train import loop
from tests.train.test_nonfinite import Poisoned, make_config


def main() -> None:
    address, index, workdir, skip, rollback, *batches = sys.argv[1:]
    # The tests' own process has eight devices; no backend has been started yet.
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1"
    objective.OBJECTIVES.add("poisoned", Poisoned)
    guard = {"guard.skip": int(skip), "guard.rollback": rollback == "True"}
    config = make_config(*map(int, batches), **guard)
    with processes.session(Place(address, 2, int(index)), 30):
        loop.train(config, workdir)


if __name__ == "__main__":
    cli.run(main)
