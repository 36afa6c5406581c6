"""One process of a pair that trains on poisoned batches:

python -m tests.faults.poisoned ADDRESS INDEX WORKDIR SKIP ROLLBACK BATCH ...
"""

import os
import sys

from imgcls import cli, objectives, processes, train
from imgcls.cluster import Place
from tests.test_guard import Poisoned, make_config


def main() -> None:
    address, index, workdir, skip, rollback, *batches = sys.argv[1:]
    # The tests' own process has eight devices; no backend has been started yet.
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1"
    objectives._objectives["poisoned"] = Poisoned
    guard = {"guard.skip": int(skip), "guard.rollback": rollback == "True"}
    config = make_config(*map(int, batches), **guard)
    with processes.session(Place(address, 2, int(index)), 30):
        train.train(config, workdir)


if __name__ == "__main__":
    cli.run(main)
