"""Mistakes of users: one clear line, the right exit code, and nothing harmed that was there."""

import functools
import json
import subprocess
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPO, command_env, command_line

SHORT = (
    "--config=configs/digits.py",
    "--config.total=4 steps",
    "--config.model.width=8",
    "--config.model.stage_sizes=(1, 1)",
    "--config.log.every=1 steps",
    "--config.model.virtual_batch_size=8",
)

# (arguments after those of SHORT, words that the line must hold)
WRONG_CONFIGS = {
    "unknown key": (["--config.optim.learning_rat=1"], ["optim.learning_rat", "'learning_rate'"]),
    "unknown section": (["--config.optm.name=sgd"], ["'optm'", "'optim'"]),
    "wrong type": (["--config.batch_size=many"], ["config.batch_size='many'", "int"]),
    "not a flag": (["--workdirr=/tmp"], ["--workdirr=/tmp", "--config.KEY=VALUE"]),
    "no duration": (["--config.total=4 stepz"], ["config.total='4 stepz'", "'90 epochs'"]),
    "unknown model": (["--config.model.name=resnet19"], ["resnet19", "resnet18"]),
    "unknown model option": (["--config.model.widht=8"], ["widht", "width"]),
    "unknown objective": (["--config.objective.name=supervisd"], ["supervisd", "supervised"]),
    "unknown optimiser": (["--config.optim.name=adamm"], ["adamm", "adam"]),
    "unknown evaluator": (["--config.evaluators.test.type=clasification"], ["classification"]),
    "no section": (["--config.evaluators.val=test"], ["config.evaluators.val='test'", "section"]),
    "taken name": (["--config.evaluators.train.split=test"], ["evaluators.train", "train_part"]),
    "unknown metric": (["--config.checkpoint.keep_best=tset/accuracy"], ["tset/accuracy", "test"]),
    "unknown augmentation": (
        ["--config.data.train_transform=flipp|pad_crop(8)"],
        ["config.data.train_transform", "flipp", "flip"],
    ),
    "unknown argument": (
        ["--config.data.train_transform=pad_crop(8, pading=1)"],
        ["config.data.train_transform", "pading", "padding"],
    ),
    "unknown batch transform": (
        ["--config.data.batch_transform=mixupp(0.2)"],
        ["config.data.batch_transform", "mixupp", "mixup"],
    ),
    "missing folder": (["--config.data.source=folder:/no/such"], ["/no/such", "no such directory"]),
    "missing tfds": (
        ["--config.data.source=tfds:imagenet2012", "--config.data.dir=/no/such"],
        ["python -m imgcls.prepare --name=imagenet2012 --data_dir=/no/such", "--manual_dir"],
    ),
    "missing split": (["--config.data.train_split=trian"], ["trian", "train, test"]),
    "class mismatch": (["--config.model.num_classes=7"], ["num_classes=7", "10 classes"]),
    "indivisible batch": (
        ["--config.batch_size=30"],
        ["config.batch_size=30", "8 (devices) x 8 (model.virtual_batch_size)", "for example 64"],
    ),
    "mesh": (["--config.mesh.fsdp=3"], ["config.mesh", "fsdp=3", "8 devices"]),
    "channels of mean": (["--config.data.mean=(0.5, 0.5)"], ["config.data.mean", "1 channel"]),
    "negative seed": (["--config.seed=-1"], ["config.seed=-1", "0 or more"]),
    "negative workers": (["--config.data.workers=-1"], ["config.data.workers=-1", "0 or more"]),
    "no accumulation": (["--config.accumulate=0"], ["config.accumulate=0", "1 or more"]),
    "average of one": (["--config.ema=1.0"], ["config.ema=1.0", "below 1"]),
    "zero steps": (["--config.total=0 steps"], ["config.total", "at least one step"]),
}


def the_line(done) -> str:
    """The one line of an error; anything more, such as a traceback, is a failure."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


@pytest.fixture
def main(here):
    """`python -m imgcls.main` on eight devices."""
    return functools.partial(here, "main", devices=8)


@pytest.mark.parametrize("mistake", WRONG_CONFIGS)
def test_wrong_config(mistake, main, tmp_path):
    args, words = WRONG_CONFIGS[mistake]
    workdir = tmp_path / "run"
    done = main(*SHORT, *args, f"--workdir={workdir}")
    assert done.returncode == 2
    line = the_line(done)
    for word in words:
        assert word in line
    assert not workdir.exists()


def test_wrong_config_as_a_command(command, cache, tmp_path):
    """The same as users type it: exit code, one line on stderr, nothing on stdout."""
    workdir = f"--workdir={tmp_path / 'x'}"
    line = command_line("main", *SHORT, "--config.optim.learning_rat=1", workdir)
    done = subprocess.run(line, env=command_env(cache), cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert "learning_rate" in the_line(done)
    done = command("main", "--config=configs/digit.py", workdir)
    assert done.returncode == 2 and "configs/digits.py" in the_line(done)


def test_another_config_in_a_used_workdir(main, tmp_path):
    """Every changed key is named, nothing is written; and it continues where that was meant."""
    first = main(*SHORT, f"--workdir={tmp_path}")
    assert first.returncode == 0, first.stderr

    def contents():
        files = (p for p in tmp_path.rglob("*") if p.is_file())
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files}

    before = contents()
    changes = ("--config.total=6 steps", "--config.optim.weight_decay=0.5")
    done = main(*SHORT, *changes, f"--workdir={tmp_path}")
    assert done.returncode == 2
    line = the_line(done)
    assert "total was '4 steps', is '6 steps'" in line
    assert "optim.weight_decay was 0.0005, is 0.5" in line
    assert contents() == before
    done = main(*SHORT, *changes, "--accept_changes", f"--workdir={tmp_path}")
    assert done.returncode == 0 and "continue at step 4 of 6" in done.stdout, done.stderr


def test_a_total_below_the_step_of_the_run(main, tmp_path):
    """One line, whatever the unit; and the run can still be continued."""
    assert main(*SHORT, f"--workdir={tmp_path}").returncode == 0
    for total in ("3 steps", "100 examples"):
        changes = (f"--config.total={total}", "--accept_changes")
        done = main(*SHORT, *changes, f"--workdir={tmp_path}")
        assert done.returncode == 2
        line = the_line(done)
        assert f"config.total={total!r}: ends at step" in line
        assert f"but {tmp_path} is at step 4 already: train longer" in line
        assert f"config.init_from={tmp_path}:4" in line
    done = main(*SHORT, f"--workdir={tmp_path}")
    assert done.returncode == 0 and "continue at step 4 of 4" in done.stdout


@pytest.fixture
def pictures(tmp_path):
    """A folder of two classes with one truncated JPEG in the training set."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for split, count in (("train", 12), ("test", 4)):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{i}.jpg")
    bad = folder / "train" / "dog" / "3.jpg"
    bad.write_bytes(bad.read_bytes()[:-300])
    return folder


def picture_run(pictures, workdir) -> tuple[str, ...]:
    return (
        *SHORT,
        "--config.total=6 steps",
        "--config.batch_size=8",
        f"--config.data.source=folder:{pictures}",
        "--config.data.channels=3",
        "--config.data.train_transform=resize((16, 16))",
        "--config.data.eval_transform=resize((16, 16))",
        "--config.checkpoint.every=1 steps",
        f"--workdir={workdir}",
    )


def test_truncated_jpeg_is_named(here, pictures, tmp_path):
    done = here("main", *picture_run(pictures, tmp_path / "run"))
    assert done.returncode == 1
    assert str(pictures / "train" / "dog" / "3.jpg") in the_line(done)


@pytest.mark.slow
def test_truncated_jpeg_is_named_by_a_worker_process_too(command, pictures, tmp_path):
    run = picture_run(pictures, tmp_path / "run")
    done = command("main", *run, "--config.data.workers=2")
    assert done.returncode == 1
    assert str(pictures / "train" / "dog" / "3.jpg") in the_line(done)


def test_truncated_jpeg_is_skipped_and_counted(here, pictures, tmp_path):
    run = (*picture_run(pictures, tmp_path / "run"), "--config.data.on_error=skip")
    done = here("main", *run)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    counts = [json.loads(line).get("train/skipped_records") for line in lines]
    # 6 steps of 8 are two epochs of 24: the record comes up twice.
    assert max(c or 0 for c in counts) == 2
    assert "2 unreadable records were skipped" in done.stdout
    assert str(pictures / "train" / "dog" / "3.jpg") in done.stderr


def test_a_folder_of_a_single_class(main, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(8):
        path = tmp_path / "data" / "cat" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    data, workdir = tmp_path / "data", tmp_path / "run"
    done = main(f"--config=configs/own.py:data={data},size=16,epochs=1", f"--workdir={workdir}")
    assert done.returncode == 2
    assert "error: config.data.source: the data has only one class, 'cat'" in done.stderr
    assert not (workdir / "checkpoints").exists()


def test_zip_that_points_outside_is_refused(main, tmp_path):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../cat/0.jpg", b"")
    done = main(*SHORT, f"--config.data.source=folder:{path}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2 and "'../../cat/0.jpg'" in the_line(done)


def test_loss_that_is_not_finite_stops_the_run(here, tmp_path):
    """With the step's number; the last good checkpoint is kept and is restorable."""
    run = (*SHORT, "--config.total=40 steps", f"--workdir={tmp_path}")
    good = here("main", *run, "--config.checkpoint.every=1 steps", "--config.total=4 steps")
    assert good.returncode == 0, good.stderr
    bad = ("--config.optim.learning_rate=1e30", "--accept_changes")
    done = here("main", *run, *bad, "--config.checkpoint.every=1 steps")
    assert done.returncode == 1
    line = the_line(done)
    assert "step" in line and ("loss is" in line or "grad_norm is" in line)
    steps = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert steps and max(steps) < int(line.split("step ")[1].split(":")[0])
    shown = here("evaluate", f"--workdir={tmp_path}")
    assert shown.returncode == 0 and "test/accuracy" in shown.stdout, shown.stderr
