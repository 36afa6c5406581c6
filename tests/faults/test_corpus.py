"""Broken and hostile pictures in a training set: no crash, no hang, little memory, exact counts."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from imgcls.core.errors import DataError
from imgcls.data import files
from imgcls.data.loading.reader import Reader
from imgcls.data.sources.open import open_dataset
from tests.conftest import REPO
from tests.faults import corpus, fuzz

MEMORY = 2 << 30

# Reads the training set of a folder in the order of evaluation, by two threads, and tells what
# became of each picture and the most memory that was held.
READ = """
import json, logging, sys
import jax
from imgcls.core.defaults import default_config
from imgcls.data.create import create_eval_loader
from imgcls.data.sources.open import open_dataset
from imgcls.distributed import sharding
from tests.faults.fuzz import most_memory
logging.disable(logging.CRITICAL)
config = default_config()
config.data.eval_transform, config.data.on_error, config.data.threads = "eval_crop(32)", "skip", 2
config.batch_size = 8
source = open_dataset("folder:" + sys.argv[1], on_error="skip").open("train")
loader = create_eval_loader(config, source, sharding.create_mesh(config), 8)
read = {}
for batch in loader:
    for index, mask in zip(batch["index"].tolist(), batch["mask"].tolist()):
        if index >= 0:
            read[source.name(index)] = bool(mask)
print(json.dumps({"read": read, "skipped": loader.skipped, "peak": most_memory()}))
"""


@pytest.fixture(scope="module")
def jpegs(shared_data):
    return corpus.real_jpegs(shared_data)


@pytest.fixture(scope="module")
def broken(jpegs, tmp_path_factory) -> tuple[pathlib.Path, dict[str, str]]:
    """A data set of one class with the whole corpus, and each file's verdict."""
    root = tmp_path_factory.mktemp("broken") / "set"
    verdicts = corpus.write(corpus.corpus(jpegs), root / "train" / "kind")
    (root / "train" / "kind" / "folder.jpg").mkdir()
    (root / "train" / "kind" / "around").symlink_to(root / "train", target_is_directory=True)
    return root, verdicts


def read_in_a_process(folder: pathlib.Path, timeout: int = 150) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder)],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"},
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def check_verdicts(told: dict, verdicts: dict[str, str]) -> None:
    assert told["read"].keys() == verdicts.keys()
    wrong = {
        name: verdict
        for name, verdict in verdicts.items()
        if verdict != corpus.EITHER and told["read"][name] != (verdict == corpus.READ)
    }
    assert not wrong
    assert told["skipped"] == sum(not was_read for was_read in told["read"].values())
    assert told["peak"] < MEMORY


def test_what_is_read_and_what_is_refused(broken):
    folder, verdicts = broken
    assert len(verdicts) >= 60
    check_verdicts(read_in_a_process(folder), verdicts)


def test_all_decoders_agree(broken):
    _, verdicts = broken
    told = {}
    for path in verdicts:
        try:
            data = files.read_file(path)
        except DataError:
            continue
        told[path] = fuzz.read_picture(data, np.random.default_rng(0)) == "read"
    for path, verdict in verdicts.items():
        if verdict == corpus.READ:
            assert told[path], path
        elif verdict == corpus.REFUSED:
            assert not told.get(path), path


def test_each_is_named_in_one_line(broken):
    folder, verdicts = broken
    source = open_dataset(f"folder:{folder}").open("train")
    reader = Reader(source, (), seed=0, shuffle=False)
    for index in range(len(source)):
        if verdicts[source.name(index)] == corpus.REFUSED:
            with pytest.raises(DataError) as error:
                reader._open(index)[0].pixels  # noqa: B018
            assert str(error.value).startswith(source.name(index))
            assert "\n" not in str(error.value).removeprefix(source.name(index))


@pytest.mark.slow
def test_pictures_as_large_as_are_read(tmp_path):
    verdicts = corpus.write(corpus.large(), tmp_path / "set" / "train" / "kind")
    told = read_in_a_process(tmp_path / "set", timeout=600)
    check_verdicts(told, verdicts)
    print(f"at most {told['peak'] / 2**20:.0f} MiB")
