"""Folders of videos through the commands."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import imgcls
from imgcls.data.decode.video import EncodedVideo
from imgcls.export.__main__ import main as export_main
from tests.data.videos import write_video

CONFIG = """
from ml_collections import ConfigDict


def get_config():
    c = ConfigDict(dict(total="12 steps", batch_size=8))
    backbone = dict(stem="cifar", width=8, stage_sizes=(1,))
    model = dict(name="slices2d", backbone="resnet18", backbone_options=backbone)
    c.model = ConfigDict(model)
    c.data = ConfigDict()
    c.optim = ConfigDict(dict(learning_rate=0.3))
    c.schedule = ConfigDict(dict(warmup="1 step"))
    c.evaluators = ConfigDict(dict(test=dict(split="test", every="12 steps")))
    c.checkpoint = ConfigDict(dict(every="6 steps"))
    c.log = ConfigDict(dict(every="1 steps"))
    return c
"""
EVAL = "sample_frames(4, stride=3)|resize((16, 16))"
TRAIN = "sample_frames(4, stride=3)|random_resized_crop(16)|flip"


def draw(label: int, seed: int) -> np.ndarray:
    """20 frames `[20, 24, 32, 3]` of noise that gets brighter or stays dark."""
    noise = np.random.default_rng(seed).integers(0, 40, (20, 24, 32, 3)).astype(np.uint8)
    return noise + np.uint8(180) * np.uint8(label)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """40 videos, `dark/00.mp4`, `bright/01.mp4`, ..."""
    root = tmp_path_factory.mktemp("videos")
    for seed in range(40):
        folder = root / ("dark", "bright")[seed % 2]
        folder.mkdir(exist_ok=True)
        data = write_video(draw(seed % 2, seed), gop=8)
        (folder / f"{seed:02d}.mp4").write_bytes(data)
    return root


def train(here, source: str, workdir, *more: str, devices: int = 1):
    config = workdir.with_suffix(".py")
    config.write_text(CONFIG)
    done = here(
        "main",
        f"--config={config}",
        f"--config.data.source={source}",
        f"--config.data.train_transform={TRAIN}",
        f"--config.data.eval_transform={EVAL}",
        *more,
        f"--workdir={workdir}",
        devices=devices,
    )
    assert done.returncode == 0, done.stderr
    return imgcls.load(workdir)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def trained(here, videos, workdir):
    return train(here, f"folder:{videos}", workdir)


def losses(workdir) -> list[float]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row["train/loss"] for row in map(json.loads, lines) if "train/loss" in row]


def test_a_run_learns(trained, workdir):
    curve = losses(workdir)
    assert len(curve) == 12 and np.mean(curve[-3:]) < 0.5 * np.mean(curve[:3])
    assert trained.evaluate("test").metrics["accuracy"] == 1


def test_predictions_of_a_file_and_of_its_frames_agree(trained, workdir, videos, here):
    file = videos / "bright" / "01.mp4"
    from_file = trained.predict(str(file))[0]
    data = EncodedVideo(file.read_bytes(), "clip")
    from_array = trained.predict(data.frames(range(20)))[0]
    np.testing.assert_array_equal(from_file.probabilities, from_array.probabilities)
    assert from_file.labels == ["bright"]
    both = trained.predict(np.stack([data.frames(range(20))] * 2))
    assert [p.labels for p in both] == [["bright"]] * 2
    done = here("predict", f"--checkpoint={workdir}", str(file), str(videos / "dark"))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["labels"] for row in rows] == [["bright"]] + [["dark"]] * 20
    assert rows[0]["path"] == str(file)


def test_clips_are_averaged(trained, workdir, videos):
    """Starts 0, 5 and 10 of 20 frames, for stretches of 10."""
    file = str(videos / "bright" / "01.mp4")
    frames = EncodedVideo((videos / "bright" / "01.mp4").read_bytes(), "clip").frames(range(20))
    alone = trained.features([frames[start : start + 10] for start in (0, 5, 10)])
    assert np.abs(alone - alone[0]).max() > 1e-3
    run = imgcls.load(workdir)
    run.config.data.eval_transform = EVAL.replace("stride=3", "stride=3, clips=3")
    np.testing.assert_allclose(run.features(file)[0], alone.mean(0), rtol=1e-5)
    singles = trained.predict([frames[start : start + 10] for start in (0, 5, 10)])
    expected = np.mean([p.probabilities for p in singles], axis=0)
    np.testing.assert_allclose(run.predict(file)[0].probabilities, expected, rtol=1e-5)
    assert run.evaluate("test").metrics["accuracy"] == 1


def test_windows_of_a_video(trained, workdir, here, tmp_path):
    """A second of noise that is dark, and then one that is bright."""
    frames = np.concatenate([draw(0, 1), draw(0, 2)[:5], draw(1, 3), draw(1, 4)[:5]])
    file = tmp_path / "both.mp4"
    file.write_bytes(write_video(frames, gop=8))
    (tmp_path / "broken.mp4").write_bytes(b"none")
    paths = [str(file), str(tmp_path / "broken.mp4")]
    done = here("predict", f"--checkpoint={workdir}", "--every=0.5s", *paths)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["start"], row["end"]) for row in rows] == [(0, 0.5), (0.5, 1), (1, 1.5), (1.5, 2)]
    assert [row["labels"] for row in rows] == [["dark"], ["dark"], ["bright"], ["bright"]]
    assert done.returncode == 1 and "broken.mp4: not a video" in done.stderr
    part = EncodedVideo(file.read_bytes(), "part", start=1.0, end=1.5)
    alone = trained.predict(part.frames(range(len(part))))[0]
    assert rows[2]["predictions"][0]["score"] == pytest.approx(max(alone.probabilities), rel=1e-5)
    table = here("predict", f"--checkpoint={workdir}", "--every=1s", "--format=csv", paths[0])
    lines = table.stdout.splitlines()
    assert lines[0].startswith('"path","start","end","labels"') and len(lines) == 3
    for argument in ("--every=0s", "--every=often"):
        done = here("predict", f"--checkpoint={workdir}", argument, *paths)
        assert done.returncode == 2 and "write seconds, such as 2s" in done.stderr
    done = here("predict", f"--checkpoint={workdir}", "--every=1s", "--format=labelstudio", *paths)
    assert done.returncode == 2 and "--every: goes with --format=jsonl" in done.stderr


def test_resumes_bitwise(here, trained, workdir, videos, tmp_path):
    """From the checkpoint of step 6, with other threads."""
    again = tmp_path / "again"
    shutil.copytree(workdir, again)
    shutil.rmtree(again / "checkpoints" / "12")
    resumed = train(here, f"folder:{videos}", again, "--config.data.threads=3")
    expected, found = (jax.tree.leaves(run._trained.params) for run in (trained, resumed))
    assert len(expected) == len(found) > 0
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert losses(again)[-6:] == losses(workdir)[-6:]


@pytest.mark.parametrize("options", ["", ",fps=5,model='cnn_lstm'"])
def test_own_videos(options, here, videos, tmp_path):
    recipe = f"own_videos.py:data=folder:{videos},size=16,frames=3,epochs=1,width=4{options}"
    done = here("main", f"--config=configs/{recipe}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    run = imgcls.load(tmp_path / "run")
    assert run.info.image_shape == (3, 16, 16, 3)
    (prediction,) = run.predict(str(videos / "dark" / "00.mp4"))
    assert prediction.labels


def test_export_is_a_function_of_a_clip(trained, workdir, videos, tmp_path):
    export_main([f"--checkpoint={workdir}", f"--to={tmp_path}", "--format=stablehlo"])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["input"]["shape"] == ["b", 4, 16, 16, 3]


def test_a_report_shows_videos(here, trained, workdir):
    done = here("report", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    page = (workdir / "report" / "report.html").read_text()
    assert "Clips play in a loop" in page and "Each volume" not in page
    assert page.count("<picture>") == page.count('src="data:image/webp') > 0


def test_a_folder_of_frames_is_predicted(trained, workdir, videos, here, tmp_path):
    frames = EncodedVideo((videos / "bright" / "01.mp4").read_bytes(), "clip").frames(range(20))
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")
    (alone,) = trained.predict(frames)
    done = here("predict", f"--checkpoint={workdir}", str(folder))
    (row,) = (json.loads(line) for line in done.stdout.splitlines())
    assert row["path"] == str(folder) and row["labels"] == ["bright"]
    assert row["predictions"][0]["score"] == pytest.approx(max(alone.probabilities), rel=1e-6)


def test_padding_does_not_count_and_a_video_is_one_line(here, videos, tmp_path):
    """Videos of 20 frames in clips of 30: the scores are those of clips of 20."""
    sample = "sample_frames(30, {}short='pad')|resize((16, 16))"
    evaluated = sample.format("clips=3, ")
    recipes = [
        f"--config.data.eval_transform={evaluated}",
        f"--config.data.train_transform={sample.format('')}",
    ]
    model = "--config.model.name=frame_average"
    run = train(here, f"folder:{videos}", tmp_path / "run", *recipes, model)
    file = str(videos / "bright" / "01.mp4")
    padded = run.predict(file)[0].probabilities
    run.config.data.eval_transform = "sample_frames(20)|resize((16, 16))"
    np.testing.assert_allclose(padded, run.predict(file)[0].probabilities, rtol=1e-4)
    done = here("evaluate", f"--workdir={tmp_path / 'run'}", "--scores")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "run" / "report" / "test_predictions.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    names = [row["id"] for row in rows]
    assert len(set(names)) == len(names) == json.loads(done.stdout)["test/examples"]
    for row in rows:
        scores = [float(row[f"probability {name}"]) for name in ("bright", "dark")]
        assert sum(scores) == pytest.approx(1, abs=1e-4)
        assert max(scores) == float(row["probability"])
