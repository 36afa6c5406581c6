"""ImageNet from the official archives: prepared by TFDS, trained on without TensorFlow.

Preparing needs tensorflow-cpu, in this environment or in the one whose interpreter
IMGCLS_PREPARE_PYTHON names (requirements-prepare.txt).
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.loading.reader import Reader
from imgcls.data.sources.open import create_source
from imgcls.data.transforms import spec
from imgcls.data.transforms.transform import TRANSFORMS
from tests.conftest import REPO, command_env
from tests.data.videos import number_in


@pytest.fixture(scope="module")
def python() -> str:
    """A Python interpreter with TensorFlow."""
    if named := os.environ.get("IMGCLS_PREPARE_PYTHON"):
        return named
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs tensorflow-cpu: pip install -r requirements-prepare.txt")
    return sys.executable


def prepare(python: str, cache: str, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [python, "-m", "imgcls.prepare", *args],
        env=command_env(cache) | {"PYTHONPATH": str(REPO)},
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def data_dir(python, cache, shared_data, tmp_path_factory) -> pathlib.Path:
    """A small ImageNet, prepared by the command."""
    folder = tmp_path_factory.mktemp("tfds")
    manual = f"--manual_dir={shared_data / 'imagenet_mini'}"
    done = prepare(python, cache, "--name=imagenet2012", manual, f"--data_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert f"--config.data.source=tfds:imagenet2012 --config.data.dir={folder}" in done.stdout
    return folder


@pytest.fixture(scope="module")
def tfrecord_dir(python, shared_data, tmp_path_factory) -> pathlib.Path:
    """The same data as written by another project."""
    folder = tmp_path_factory.mktemp("tfrecord")
    script = (
        "import tensorflow_datasets as tfds\n"
        f"b = tfds.builder('imagenet2012', data_dir={str(folder)!r}, file_format='tfrecord')\n"
        f"manual = {str(shared_data / 'imagenet_mini')!r}\n"
        "config = tfds.download.DownloadConfig(manual_dir=manual)\n"
        "b.download_and_prepare(download_config=config)\n"
    )
    subprocess.run([python, "-c", script], check=True, capture_output=True, timeout=300)
    return folder


# Runs a command and reports at the end whether TensorFlow was imported.
WITHOUT_TENSORFLOW = """
import sys
from imgcls.main import main
main(sys.argv[1:])
print("tensorflow imported:", "tensorflow" in sys.modules)
"""


@pytest.mark.parametrize(
    "recipe, smaller",
    [
        (
            "resnet50",
            ["--config.model.virtual_batch_size=4", "--config.model.stage_sizes=(1, 1, 1, 1)"],
        ),
        pytest.param(
            "resnet50", ["--config.model.virtual_batch_size=4"], marks=pytest.mark.slow, id="whole"
        ),
        pytest.param("vit_b16", [], marks=pytest.mark.slow),
    ],
)
def test_recipes_train_and_evaluate(recipe, smaller, data_dir, cache, tmp_path):
    """Three steps and an evaluation of each recipe, with a smaller batch."""
    args = (
        *smaller,
        f"--config=configs/{recipe}.py",
        f"--config.data.dir={data_dir}",
        "--config.batch_size=8",
        "--config.total=3 steps",
        "--config.log.every=1 steps",
        f"--workdir={tmp_path}",
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *args],
        env=command_env(cache),
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "tensorflow imported: False" in done.stdout
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3]
    assert lines[-1]["val/examples"] == 80
    assert 0 <= lines[-1]["val/accuracy"] <= lines[-1]["val/top5_accuracy"] <= 1


def test_tfrecord_copy_is_converted_by_the_command_of_its_error(
    command, python, cache, data_dir, tfrecord_dir, tmp_path
):
    run = ("--config=configs/resnet50.py", f"--workdir={tmp_path / 'run'}")
    done = command("main", *run, f"--config.data.dir={tfrecord_dir}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "tfrecord, which has no random access" in done.stderr
    typed = done.stderr.split("run `python -m imgcls.prepare ")[1].split("`")[0].split()
    converted = prepare(python, cache, *typed)
    assert converted.returncode == 0, converted.stderr
    target = pathlib.Path(typed[1].removeprefix("--to="))

    from imgcls.data.sources.open import create_source

    ours = create_source("tfds:imagenet2012", "train", data_dir=str(target))
    theirs = create_source("tfds:imagenet2012", "train", data_dir=str(data_dir))
    assert len(ours) == len(theirs) == 360
    records = [
        {(r["label"], r["image"]) for r in map(s.__getitem__, range(360))} for s in (ours, theirs)
    ]
    assert records[0] == records[1]
    assert "exists already" in prepare(python, cache, *typed).stderr


def test_source_reads_splits_and_slices(data_dir):
    from imgcls.data.sources.open import create_source

    whole = create_source("tfds:imagenet2012:5.1.0", "validation", data_dir=str(data_dir))
    part = create_source("tfds:imagenet2012", "validation[10:20]", data_dir=str(data_dir))
    assert (len(whole), len(part), len(whole.class_names)) == (80, 10, 1000)
    for i in range(10):
        assert part[i]["image"] == whole[10 + i]["image"] and part[i]["image"][:2] == b"\xff\xd8"
        assert part.name(i).split("(")[1] == whole.name(10 + i).split("(")[1]


@pytest.mark.parametrize(
    "args, words",
    [
        (["--name=imagenett2012"], "imagenett2012"),
        (["--name=imagenet2012", "--manual_dir=/no/such"], "imagenet2012"),
        (["--convert=/no/such", "--to=/tmp/x"], "not a prepared TFDS dataset"),
    ],
)
def test_mistakes(args, words, python, cache, tmp_path):
    done = prepare(python, cache, *args, f"--data_dir={tmp_path}")
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(told) == 1 and words in told[0], done.stderr


def test_missing_tensorflow_is_one_line(command):
    if importlib.util.find_spec("tensorflow") is not None:
        pytest.skip("TensorFlow is installed here")
    done = command("prepare", "--name=imagenet2012")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: preparing a dataset needs TensorFlow: run `pip install -r requirements-prepare.txt`"
    ]


# Four videos of the frames 0 to 11, as TFDS stores videos: one PNG per frame.
VIDEOS = """
import sys

import numpy as np
import tensorflow_datasets as tfds

from tests.data.videos import numbered

FEATURES = {
    "video": tfds.features.Video(shape=(None, 64, 96, 3)),
    "label": tfds.features.ClassLabel(names=["a", "b"]),
}


class Clips(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(FEATURES)
        keys = ("video", "label")
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=keys)

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for key in range(4):
            yield key, {"video": np.stack([numbered(n) for n in range(12)]), "label": key % 2}


Clips(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
"""


def test_videos_of_tfds_are_converted(python, cache, tmp_path):
    env = command_env(cache) | {"PYTHONPATH": str(REPO)}
    script = tmp_path / "script" / "clips.py"
    script.parent.mkdir()
    script.write_text(VIDEOS)
    source = ["--from=tfds:clips", f"--data_dir={tmp_path / 'tfds'}", "--videos"]
    for command in (
        [script, tmp_path / "tfds"],
        ["-m", "imgcls.convert", *source, f"--to={tmp_path / 'records'}"],
    ):
        done = subprocess.run([python, *command], env=env, cwd=REPO, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    records = create_source(f"records:{tmp_path / 'records'}", "train", videos=True)
    assert sorted(records.labels().tolist()) == [0, 0, 1, 1]
    transforms = spec.parse("sample_frames(4)", TRANSFORMS, "x")
    reader = Reader(records, transforms, 0, False)
    for index in range(4):
        frames = reader.example(index)["image"]
        assert [number_in(frame) for frame in frames] == [4, 5, 6, 7]
    if importlib.util.find_spec("tensorflow") is None:
        with pytest.raises(ConfigError, match="tfds:clips: its features need tensorflow: run `pip"):
            create_source("tfds:clips", "train", data_dir=str(tmp_path / "tfds"))
