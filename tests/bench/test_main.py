"""The command `bench`: peaks, and equal numbers in the table and the JSON."""

import json
import time

import jax.numpy as jnp
import numpy as np
import pytest

from imgcls.bench import inputs
from imgcls.bench.__main__ import main
from imgcls.bench.peaks import find_peak, measure_peak
from imgcls.bench.steps import WARM_UP, Timing, time_steps
from imgcls.core import cli
from tests.conftest import exit_code
from tests.data.videos import write_video

# The smallest config; the test process has eight devices.
TINY = (
    "--config=configs/digits.py",
    "--config.model.width=8",
    "--config.model.stage_sizes=(1,)",
    "--config.model.virtual_batch_size=8",
    "--steps=3",
)


def test_peaks():
    """The names are those of `jax.Device.device_kind`."""
    peaks = {
        **{"TPU v4": 275, "TPU v5 lite": 197, "TPU v5": 459, "TPU v6 lite": 918},
        **{"NVIDIA A100-SXM4-80GB": 312, "NVIDIA H100 80GB HBM3": 989, "NVIDIA H200": 989},
        **{"NVIDIA H100 PCIe": 756, "NVIDIA L4": 121, "NVIDIA L40S": 362, "cpu": None},
    }
    assert {kind: find_peak(kind) for kind in peaks} == peaks
    assert measure_peak("float32", 64, repeats=1) > 0


def test_waiting_is_the_time_without_work():
    """A loader that takes 30 ms before steps of 10 ms keeps the device idle for three quarters."""
    starts = 0.04 * np.arange(WARM_UP + 8)
    slow = Timing(list(starts), list(starts + 0.03), list(starts + 0.04))
    assert len(slow.durations) == 8
    assert slow.waiting == pytest.approx(0.75)
    assert np.median(slow.durations) == pytest.approx(0.04)
    # The next batch is requested and there while the device still works.
    assert Timing(list(starts), list(starts + 0.03), list(starts + 0.08)).waiting == 0


def test_steps_are_timed():
    """Each step waits for its batch, and the batch that nobody slows is there at once."""

    def step(state, batch):
        time.sleep(0.01)
        return state + 1, {"loss": jnp.zeros(())}

    def batches(seconds):
        for _ in range(WARM_UP + 8):
            time.sleep(seconds)
            yield {}

    state, slow = time_steps(step, 0, batches(0.03))
    assert state == WARM_UP + 8 and len(slow.durations) == 8
    assert slow.durations.sum() > 0.2 and slow.waiting > 0
    assert time_steps(step, 0, batches(0))[1].waiting < slow.waiting


def parse_table(text: str) -> dict:
    """Parses a printed table: `{section: {name: text of the value}}`."""
    report, section = {}, None
    for line in text.strip().splitlines():
        section = line[:10].strip() or section
        report.setdefault(section, {})[line[10:56].strip()] = line[56:].strip()
    return report


def as_number(text: str):
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text


@pytest.mark.parametrize("what", ["input", "eval", "step"])
def test_table_and_json_are_equal(what, tmp_path, capsys):
    file = tmp_path / "speed.json"
    before = set(tmp_path.iterdir())
    assert exit_code(lambda: main([*TINY, f"--what={what}", f"--json={file}"])) == 0
    report, printed = json.loads(file.read_text()), parse_table(capsys.readouterr().out)
    assert set(tmp_path.iterdir()) - before == {file}
    assert report.keys() == printed.keys()
    for section, numbers in report.items():
        assert {n: as_number(t) for n, t in printed[section].items()} == numbers
    assert report["machine"]["devices"] == 8
    sections = {"step": ["step", "pipeline"]}.get(what, [what])
    assert [*report] == ["machine", *sections]
    for section in sections:
        numbers = report[section]
        assert numbers["images/s"] > 0
        per_device = numbers["images/s"] / 8
        assert numbers["images/s per device"] == pytest.approx(per_device, rel=1e-3)
    if what == "input":
        assert f"host memory at batch {3 + inputs.WARM_UP}, MB" in report["input"]
    if what == "step":
        check_step(report["step"])


def test_input_of_videos(tmp_path, capsys):
    """Every clip of the recipe for videos counts as an image."""
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(8):
            frames = rng.integers(0, 255, (6, 32, 48, 3)).astype(np.uint8)
            (tmp_path / label / f"{number}.mp4").write_bytes(write_video(frames))
    recipe = f"configs/own_videos.py:data=folder:{tmp_path},frames=4,size=16"
    arguments = [f"--config={recipe}", "--config.batch_size=8", "--what=input", "--steps=3"]
    assert exit_code(lambda: main([*arguments, "--json=-"])) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["machine"]["model"] == "frame_average"
    assert report["input"]["images/s"] > 0 and report["input"]["skipped records"] == 0


def check_step(step: dict) -> None:
    """Checks the derived numbers against the measured ones, and the FLOPs against the network."""
    # Of the stem and the one stage of two 3x3 convolutions at 8 channels, forward and backward;
    # the stem has no gradient to its input. Head: 8 -> 10.
    taps = 9 * 8 * 8 * 64
    forward = 64 * 2 * (9 * 1 * 8 * 64 + 2 * taps + 80)
    backward = 64 * 2 * (9 * 1 * 8 * 64 + 2 * (2 * taps + 80))
    assert step["TFLOPs of a step"] * 1e12 == pytest.approx(forward + backward, rel=0.02)
    seconds = step["step time median, ms"] / 1e3
    achieved = step["TFLOPs of a step"] / seconds / 8
    assert step["TFLOP/s per device"] == pytest.approx(achieved, rel=1e-2)
    peak = step["measured matmul peak in float32, TFLOP/s"]
    share = 100 * step["TFLOP/s per device"] / peak
    assert step["share of the peak, percent"] == pytest.approx(share, rel=1e-2)
    quartiles = [step[f"step time {n}, ms"] for n in ("lower quartile", "median", "upper quartile")]
    assert quartiles == sorted(quartiles) and step["trace and compile, s"] > 0


@pytest.mark.parametrize(
    "args, words",
    [
        (["--what=speed"], ["--what=speed", "input, eval, step, startup, all"]),
        (["--steps=0"], ["--steps=0", "1 or more"]),
        (["--what=input", "--config.data.sorce=digits"], ["data.sorce", "'source'"]),
        (["--config=configs/own.py:data=folder:/x"], ["when a run starts", "size=32,epochs=30"]),
        (["--what=eval", "--json=/no/such/speed.json"], ["--json=/no/such/speed.json"]),
    ],
)
def test_mistakes(args, words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: main([*TINY, *args]))
    assert end.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ") and all(word in line for word in words)


@pytest.mark.slow
def test_startup(command):
    """The second start finds the compiled programs; a mistake in the config is one line."""
    done = command("bench", *TINY, "--what=startup", "--json=-")
    assert done.returncode == 0, done.stderr
    first, first_end, second, second_end = json.loads(done.stdout)["startup"].values()
    assert 0 < second < first <= first_end and second <= second_end
    wrong = command("bench", *TINY, "--what=startup", "--config.model.name=resnet19")
    assert wrong.returncode == 2 and "resnet18" in wrong.stderr.strip().splitlines()[-1]
