"""Every format describes the same dataset: examples, splits and trained parameters are equal."""

import random

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from imgcls.convert import convert
from imgcls.core import defaults
from imgcls.data.sources.open import create_source
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import load_trained
from imgcls.train.loop import train
from tests.data.own import unpack_cifar10, write_coco, write_csv, write_darwin, write_label_studio

KINDS = ("manifest", "darwin", "labelstudio", "coco", "records")
SEED = 3


@pytest.fixture(scope="module")
def specs(shared_data, tmp_path_factory):
    """`{kind: (source, data_dir)}` of one dataset, with entries in random order."""
    root = tmp_path_factory.mktemp("own")
    pictures, files = root / "pictures", root / "files"
    paths = unpack_cifar10(shared_data, pictures)
    random.Random(0).shuffle(paths)
    labels = {path: [path.split("/")[0]] for path in paths}
    files.mkdir()
    rows = [(f" {name} ", path) for path, (name,) in labels.items()]
    sources = {
        "folder": f"folder:{pictures}",
        "manifest": f"manifest:{write_csv(files / 'all.csv', ['Label', 'image'], rows)}",
        "darwin": f"darwin:{write_darwin(files / 'darwin', labels)}",
        "labelstudio": f"labelstudio:{write_label_studio(files / 'tasks.json', labels)}",
        "coco": f"coco:{write_coco(files / 'coco.json', labels)}",
        "records": f"records:{root / 'records'}",
    }
    options = dict(shards=2, data_dir=str(pictures), seed=SEED)
    convert(sources["manifest"], str(root / "records"), **options)
    return {kind: (spec, str(pictures)) for kind, spec in sources.items()}


@pytest.mark.parametrize("split", ["train", "val", "test", "train[25%:60%]"])
def test_same_examples(specs, split):
    sources = {
        k: create_source(spec, split, data_dir=d, seed=SEED) for k, (spec, d) in specs.items()
    }
    folder = sources["folder"]
    assert 0 < len(folder) < 48
    for kind in KINDS:
        source = sources[kind]
        assert source.class_names == ("airplane", "cat", "truck") == folder.class_names
        assert source.splits == ("train", "val", "test") == folder.splits
        assert source.multi_label is False
        np.testing.assert_array_equal(source.labels(), folder.labels())
        for i in range(len(folder)):
            assert source.name(i) == folder.name(i)
            assert source[i] == folder[i]
        assert len(source) == len(folder)


def test_same_parameters(specs, tmp_path):
    """Parameters are equal bit for bit; another split trains different ones."""
    folder = trained_parameters(specs["folder"], tmp_path / "folder")
    for kind in KINDS:
        parameters = trained_parameters(specs[kind], tmp_path / kind)
        jax.tree.map(np.testing.assert_array_equal, parameters, folder)
    other = trained_parameters(specs["folder"], tmp_path / "other", split_seed=1)
    same = jax.tree.map(np.array_equal, other, folder)
    assert not any(jax.tree.leaves(same))


def trained_parameters(spec, workdir, split_seed: int = SEED) -> dict:
    """All parameters after three steps of a tiny network."""
    config = defaults.default_config()
    config.total, config.batch_size = "3 steps", 8
    config.model = ConfigDict(dict(name="resnet18", width=8, stage_sizes=(1,), stem="cifar"))
    config.objective = ConfigDict(dict(name="supervised"))
    config.data.source, config.data.dir = spec
    config.data.split_seed = split_seed
    config.data.train_transform = "flip"
    train(config, str(workdir))
    return jax.device_get(load_trained(find_checkpoint(workdir)).params)
