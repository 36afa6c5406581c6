"""Logs of a run: metrics.jsonl, config.json, TensorBoard events, log lines, progress bar."""

import importlib.util
import io
import json
import math
import os
import pty
import re
import struct
import sys
import termios
import time

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError, TrainingError
from imgcls.runs.metrics_log import Writer, save_pictures, without_later_lines
from tests.disks import fill


@pytest.fixture
def config():
    config = default_config()
    config.log.tensorboard = False
    return config


def read_lines(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def read_events(workdir) -> list[Event]:
    """All events, by the TFRecord format: length u64, its CRC u32, the data, its CRC u32."""
    events = []
    for path in sorted(workdir.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            events.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += 16 + length
    return events


# ---- metrics.jsonl and config.json.


def test_lines(config, tmp_path):
    before = time.time()
    writer = Writer(str(tmp_path), config, 0, 10)
    writer.write(1, {"train/loss": 0.5, "train/accuracy": 1})
    # Lines are not buffered.
    assert len(read_lines(tmp_path)) == 1
    writer.train_metrics(2, {"loss": 0.25, "learning_rate": 0.1})
    writer.eval_metrics(3, {"test/accuracy": 0.75, "test/examples": 359})
    writer.close()
    lines = read_lines(tmp_path)
    times = [line.pop("time") for line in lines]
    assert before <= times[0] <= times[1] <= times[2] <= time.time()
    assert lines[1].pop("train/images_per_second") > 0
    assert lines == [
        {"step": 1, "train/loss": 0.5, "train/accuracy": 1},
        {"step": 2, "train/loss": 0.25, "train/learning_rate": 0.1},
        {"step": 3, "test/accuracy": 0.75, "test/examples": 359},
    ]


def test_numbers_that_are_not_in_json(config, tmp_path):
    writer = Writer(str(tmp_path), config, 0, 10)
    writer.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0})
    writer.close()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert (line["a"], line["b"], line["c"], line["d"]) == ("nan", "inf", "-inf", 1.0)


def test_config_json(config, tmp_path):
    config.seed = 12
    Writer(str(tmp_path / "deep" / "run"), config, 0, 10).close()
    text = (tmp_path / "deep" / "run" / "config.json").read_text()
    assert text.endswith("}\n")
    assert config_lib.from_json(text).to_dict() == config.to_dict()


def test_resumed_run_drops_later_and_truncated_lines(config, tmp_path):
    first = Writer(str(tmp_path), config, 0, 10)
    for step in (2, 4, 6):
        first.write(step, {"loss": float(step)})
    first.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "lo')
    second = Writer(str(tmp_path), config, 4, 10)
    assert [line["step"] for line in read_lines(tmp_path)] == [2, 4]
    second.write(6, {"loss": 6.5})
    second.close()
    assert [(line["step"], line["loss"]) for line in read_lines(tmp_path)] == [
        (2, 2.0),
        (4, 4.0),
        (6, 6.5),
    ]


def test_without_later_lines():
    kept = ['{"step": 1, "x": "é"}', '{"step": 3, "step/x": 9}']
    truncated = ['{"step": 3, "x"', "", "5", '{"x": 1}', '{"step": null}', "\0\0\0"]
    lines = "\n".join([kept[0], *truncated, '{"step": 4}', kept[1]]).encode() + b"\n\xff\xfe\0"
    assert without_later_lines(lines, 3).decode() == "".join(line + "\n" for line in kept)
    assert without_later_lines(lines, 0) == without_later_lines(b"", 3) == b""


def test_logs_wait_while_they_cannot_be_written(config, tmp_path, small_disk, capsys):
    """Lines, events, images and the config are written once the disk has room again."""
    config.log.tensorboard = True
    with small_disk(200_000) as disk:
        fill(disk)
        writer = Writer(str(disk / "run"), config, 0, 10)
        writer.write(1, {"train/loss": 0.5})
        writer.eval_metrics(2, {"map/pca": random_picture(0), "knn/accuracy": 0.75})
        assert [p for p in (disk / "run").rglob("*") if p.is_file() and p.stat().st_size] == []
        output = capsys.readouterr().out
        assert output.count("can't be written") == 1 and "No space left on device" in output
        assert str(disk / "run" / "config.json") in output and "0.0 MB are free" in output
        (disk / "fill").unlink()
        writer.write(3, {"train/loss": 0.25})
        assert "the logs are written again" in capsys.readouterr().out
        assert [line["step"] for line in read_lines(disk / "run")] == [1, 2, 3]
        assert len([e for e in read_events(disk / "run") if e.HasField("summary")]) == 4
        picture = Image.open(disk / "run" / "report" / "map_pca_00000002.png")
        np.testing.assert_array_equal(np.asarray(picture), random_picture(0))
        assert config_lib.from_json((disk / "run" / "config.json").read_text())
        fill(disk)
        for step in range(4, 2000):  # More than the rest of a file's last block.
            writer.write(step, {"train/loss": 0.125})
        kept = read_lines(disk / "run")
        assert [line["step"] for line in kept] == list(range(1, len(kept) + 1))
        writer.close()
        output = capsys.readouterr().out
        assert output.count("can't be written") == 1
        assert f"{1999 - len(kept)} lines of" in output.splitlines()[-1]


def test_on_error_stop(config, tmp_path, small_disk):
    config.checkpoint.on_error = "stop"
    with small_disk(200_000) as disk:
        fill(disk)
        with pytest.raises(TrainingError, match="config.json: No space left on device"):
            Writer(str(disk / "run"), config, 0, 10)


# ---- Pictures.


def random_picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)


def test_pictures_of_an_evaluation(config, tmp_path, capsys):
    """Images are written to files, and only numbers are metrics."""
    first, second = random_picture(0), random_picture(1)
    writer = Writer(str(tmp_path), config, 0, 10)
    metrics = {"map/pca": first, "map/ema_pca": second, "knn/accuracy": 0.75}
    assert writer.eval_metrics(3, metrics) == {"knn/accuracy": 0.75}
    assert writer.eval_metrics(4, {"map/pca": second}) == {}
    writer.close()
    names = ["map_ema_pca_00000003.png", "map_pca_00000003.png", "map_pca_00000004.png"]
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == names
    for name, picture in zip(names, (second, first, second), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "report" / name)), picture)
    (line,) = read_lines(tmp_path)
    assert line.keys() == {"step", "time", "knn/accuracy"}
    output = capsys.readouterr().out.splitlines()
    assert "knn/accuracy 0.7500" in output[0] and str(tmp_path / "report" / names[0]) in output[0]
    assert output[1].endswith("step 4/10 " + str(tmp_path / "report" / names[2]))


def test_pictures_are_written_atomically(tmp_path, monkeypatch):
    """A crash before the rename leaves the old image, or none."""
    (path,) = save_pictures(str(tmp_path), 3, {"a/b": random_picture(0)})
    before = path.read_bytes()

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save_pictures(str(tmp_path), 3, {"a/b": random_picture(1)})
    with pytest.raises(KeyboardInterrupt):
        save_pictures(str(tmp_path), 4, {"a/b": random_picture(1)})
    assert [p.name for p in (tmp_path / "report").glob("*.png")] == ["a_b_00000003.png"]
    assert path.read_bytes() == before


def test_other_processes_write_no_pictures(config, tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    writer = Writer(str(tmp_path), config, 0, 10)
    found = writer.eval_metrics(3, {"map/pca": random_picture(0), "knn/accuracy": 0.5})
    writer.close()
    assert found == {"knn/accuracy": 0.5} and not list(tmp_path.iterdir())


def test_pictures_among_the_events(config, tmp_path):
    config.log.tensorboard = True
    writer = Writer(str(tmp_path), config, 0, 10)
    writer.eval_metrics(10, {"map/pca": random_picture(0)})
    writer.close()
    values = [(e.step, v) for e in read_events(tmp_path) for v in e.summary.value]
    ((step, value),) = [(s, v) for s, v in values if v.tag == "map/pca"]
    shown = Image.open(io.BytesIO(value.image.encoded_image_string))
    assert step == 10
    np.testing.assert_array_equal(np.asarray(shown), random_picture(0))


# ---- TensorBoard and wandb.


def test_events(config, tmp_path):
    config.log.tensorboard = True
    writer = Writer(str(tmp_path), config, 0, 10)
    writer.write(5, {"train/loss": 0.5})
    writer.eval_metrics(10, {"test/accuracy": 0.75, "test/loss": math.nan})
    writer.close()
    scalars = {
        (value.tag, event.step): value.simple_value
        for event in read_events(tmp_path)
        for value in event.summary.value
    }
    assert math.isnan(scalars.pop(("test/loss", 10)))
    assert scalars == {("train/loss", 5): 0.5, ("test/accuracy", 10): 0.75}


def test_events_of_a_resumed_run_replace_later_ones(config, tmp_path):
    config.log.tensorboard = True
    Writer(str(tmp_path), config, 7, 10).close()
    starts = [e.step for e in read_events(tmp_path) if e.HasField("session_log")]
    assert starts == [8]


def test_no_events_unless_asked(config, tmp_path):
    Writer(str(tmp_path), config, 0, 10).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json"]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_missing_wandb_changes_no_file(config, tmp_path):
    Writer(str(tmp_path), config, 0, 10).close()
    (tmp_path / "metrics.jsonl").write_text('{"step": 5}\n')
    before = {p.name: p.read_text() for p in tmp_path.iterdir()}
    config.log.wandb = True
    with pytest.raises(ConfigError, match="wandb is not installed; run `pip install wandb`"):
        Writer(str(tmp_path), config, 0, 10)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == before


# ---- Terminal.


def test_log_lines(config, tmp_path, capsys):
    config.batch_size = 32
    writer = Writer(str(tmp_path), config, 0, 100)
    writer.progress(10)
    writer.train_metrics(10, {"loss": 1.23456, "learning_rate": 0.1})
    writer.eval_metrics(20, {"test/accuracy": 0.98765, "test/examples": 359})
    writer.close()
    out, err = capsys.readouterr()
    train, evaluation = out.splitlines()
    clock = r"\[\d\d:\d\d:\d\d\] "
    pattern = clock + r"step 10/100 loss 1.235 learning_rate 0.1 \d+ img/s, \d+:\d\d:\d\d left"
    assert re.fullmatch(pattern, train)
    assert re.fullmatch(clock + "step 20/100 test/accuracy 0.9877 test/examples 359.*", evaluation)
    assert err == ""


def test_log_info(capsys):
    log.info("two words")
    assert re.fullmatch(r"\[\d\d:\d\d:\d\d\] two words\n", capsys.readouterr().out)


def test_speed_and_time_left(config, tmp_path, capsys):
    config.batch_size = 1000
    writer = Writer(str(tmp_path), config, 40, 10_000)
    time.sleep(0.3)  # a compilation
    writer.restart_clock(50)
    start = time.monotonic()
    time.sleep(0.1)
    shortest = time.monotonic() - start
    writer.train_metrics(60, {"loss": 1.0})
    longest = time.monotonic() - start
    time.sleep(0.01)
    writer.train_metrics(61, {"loss": 1.0})
    writer.close()
    speeds = [line["train/images_per_second"] for line in read_lines(tmp_path)]
    assert 10 * 1000 / (longest + 0.05) < speeds[0] < 10 * 1000 / (shortest - 0.005)
    assert speeds[1] < 1000 / 0.009
    hours, minutes, seconds = re.search(r"(\d+):(\d+):(\d+) left", capsys.readouterr().out).groups()
    left = 3600 * int(hours) + 60 * int(minutes) + int(seconds)
    assert abs(left - (10_000 - 60) * 1000 / speeds[0]) <= 1.0


def read_terminal(descriptor: int, end: str) -> str:
    """Reads the output on a terminal up to `end`; it arrives in pieces."""
    shown = ""
    while not shown.endswith(end):
        shown += os.read(descriptor, 65536).decode(errors="ignore")
    return shown


def test_progress_bar_on_a_terminal(config, tmp_path, monkeypatch, capsys):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    config.batch_size = 32
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        writer = Writer(str(tmp_path), config, 40, 100)
        writer.progress(50)
        writer.train_metrics(50, {"loss": 1.23456, "learning_rate": 0.1})
        writer.eval_metrics(50, {"test/accuracy": 0.5})
        writer.close()
        monkeypatch.undo()
        print("<end>", end="", file=terminal, flush=True)
        shown = read_terminal(ours, "<end>")
    os.close(ours)
    assert "40/100" in shown and "50/100" in shown
    assert re.search(r"loss 1\.235, \d+ img/s", shown)
    # The bar replaces the log lines of training, but not those of evaluations.
    out = capsys.readouterr().out
    assert "test/accuracy 0.5000" in out and "loss" not in out
    assert read_lines(tmp_path)[0]["train/loss"] == 1.23456
