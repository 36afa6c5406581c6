"""Runs of several processes: how they connect, and how they end when one is lost or stopped."""

import re
import signal
import subprocess
import sys
import time

import pytest
from jax._src import cloud_tpu_init, clusters, distributed

from imgcls.core.errors import EXIT_AGAIN, ConfigError
from imgcls.distributed import cluster, processes
from imgcls.distributed.cluster import Place, find_place
from imgcls.runs.load import find_checkpoint
from tests.conftest import REPO, command_env, command_line
from tests.distributed.pairs import RECIPE, Pair, place_flags


@pytest.fixture
def pair(cache, tmp_path):
    """Starts two processes of a training run, and kills them after the test."""
    pairs = []

    def start(*args: str, only: dict[int, tuple[str, ...]] | None = None) -> Pair:
        workdir = f"--workdir={tmp_path / 'run'}"

        def make_line(address: str, index: int) -> list[str]:
            place = place_flags(address, index)
            extra = (only or {}).get(index, ())
            return command_line("main", *RECIPE, workdir, *args, *extra, *place)

        pairs.append(Pair(tmp_path, cache, make_line))
        return pairs[-1]

    yield start
    for made in pairs:
        made.kill()


# A process of a pair without training: its main thread sleeps or fails.
MEMBER = """
import sys, time
from imgcls.core import cli
from imgcls.core.errors import DataError
from imgcls.distributed import processes
from imgcls.distributed.cluster import Place

def main():
    address, index, role = sys.argv[1:]
    with processes.session(Place(address, 2, int(index)), 10, 12):
        print("met", flush=True)
        processes.check_same("task", {"role": "any"})
        if role == "fails":
            raise DataError("photo.jpg: is cut off")
        if role.startswith("at "):
            processes.stop_asked(int(role[3:]))
        time.sleep(600)

cli.run(main)
"""


@pytest.fixture
def members(cache, tmp_path):
    """Starts two processes of `MEMBER` with these roles, and kills them after the test."""
    pairs = []

    def start(*roles: str) -> Pair:
        script = tmp_path / "member.py"
        script.write_text(MEMBER)
        line = (sys.executable, script)
        pairs.append(Pair(tmp_path, cache, lambda a, i: [*line, a, str(i), roles[i]]))
        return pairs[-1]

    yield start
    for made in pairs:
        made.kill()


def last_line(output: str) -> str:
    return output.splitlines()[-1]


def test_killed_process_ends_the_run(pair, tmp_path):
    run = pair("--config.total=100000 steps")
    run.wait_for("step 40/")
    run.running[1].kill()
    began = time.monotonic()
    assert run.codes() == [EXIT_AGAIN, -signal.SIGKILL]
    # The error of the collective operation makes this faster than the timeout.
    assert time.monotonic() - began < 30
    output = run.output(0)
    assert last_line(output).startswith("error: process 1 was lost") and "Traceback" not in output
    assert find_checkpoint(tmp_path / "run").step >= 20


@pytest.mark.slow
def test_sigterm_to_one_process_stops_all(pair, tmp_path):
    run = pair("--config.total=100000 steps")
    run.wait_for("step 20/")
    run.running[1].send_signal(signal.SIGTERM)
    assert run.codes() == [EXIT_AGAIN] * 2, run.output(0) + run.output(1)
    stopped = re.search(r"stopped at step (\d+) of", run.output(0))[1]
    assert find_checkpoint(tmp_path / "run").path.name == stopped
    assert "stopped" not in run.output(1)  # only the first process logs


@pytest.mark.slow
def test_a_stopped_pair_continues(pair, tmp_path):
    run = pair("--config.total=400 steps")
    run.wait_for("step 20/")
    run.running[1].send_signal(signal.SIGTERM)
    assert run.codes() == [EXIT_AGAIN] * 2
    stopped = find_checkpoint(tmp_path / "run").path.name
    run = pair("--config.total=400 steps")
    assert run.codes() == [0, 0], run.output(0)
    assert f"continue at step {stopped} of 400" in run.output(0)


def test_different_configs_end_both(pair, tmp_path):
    run = pair(only={1: ("--config.seed=7", "--config.data.threads=1")})
    assert run.codes() == [2, 2]
    for index in range(2):
        output = last_line(run.output(index))
        assert "of process 1, config.seed is 7, not 0. Start the same" in output
    assert not (tmp_path / "run").exists()


def test_error_of_one_process_ends_all(members):
    run = members("waits", "fails")
    assert run.codes() == [1, 1]
    assert last_line(run.output(0)) == "error: process 1 ended with photo.jpg: is cut off"
    assert last_line(run.output(1)) == "error: photo.jpg: is cut off"


@pytest.mark.slow
@pytest.mark.parametrize("lost, how", [(0, "KILL"), (1, "KILL"), (0, "STOP"), (1, "STOP")])
def test_process_is_lost_while_the_other_waits(lost, how, members):
    run = members("waits", "waits")
    for index in range(2):
        run.wait_for("met", index)
    time.sleep(2)
    run.running[lost].send_signal(getattr(signal, f"SIG{how}"))
    began = time.monotonic()
    assert run.running[1 - lost].wait(timeout=60) == EXIT_AGAIN, run.output(1 - lost)
    assert time.monotonic() - began < 12
    assert last_line(run.output(1 - lost)).startswith(f"error: process {lost} was lost")


@pytest.mark.slow
@pytest.mark.parametrize("steps", [("at 6", "at 5"), ("at 4", "at 5")])
def test_stuck_process_ends_both(steps, members):
    """Its thread still writes beats, but the other process is at a later step."""
    began = time.monotonic()
    run = members(*steps)
    assert run.codes() == [EXIT_AGAIN] * 2, run.output(0) + run.output(1)
    assert time.monotonic() - began > 12
    hangs = steps.index(min(steps))
    for index in range(2):
        output = last_line(run.output(index))
        assert f"error: process {hangs} hangs: no step after {min(steps)[3:]} within 12 s" in output


@pytest.mark.slow
def test_processes_at_the_same_step_are_not_stuck(members):
    run = members("at 5", "at 5")
    for index in range(2):
        run.wait_for("met", index)
    time.sleep(20)
    assert [p.poll() for p in run.running] == [None, None], run.output(0)


@pytest.mark.slow
def test_missing_coordinator(cache):
    line = "processes.session(Place('localhost:9', 2, 1), 5).__enter__()"
    imports = "from imgcls.distributed import cluster, processes; Place = cluster.Place"
    program = f"{imports}; {line}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=command_env(cache),
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == EXIT_AGAIN
    assert "process 1 of 2 did not meet all others at localhost:9 within 5 s" in done.stderr


@pytest.mark.parametrize(
    "stepping, signals, code", [(False, 1, EXIT_AGAIN), (True, 1, 0), (True, 2, 143)]
)
def test_sigterm_to_a_single_process(stepping, signals, code, cache):
    """Before the first step, SIGTERM ends the process; later it asks, and a second one ends it."""
    program = (
        "import time; from imgcls.distributed import processes\n"
        "with processes.session(None, 300):\n"
        f"    {stepping} and processes.stop_asked(1)\n"
        "    print('ready', flush=True)\n"
        "    end = time.monotonic() + 60\n"
        f"    while {signals} > 1 or not {stepping} or not processes.stop_asked(2):\n"
        "        time.sleep(0.05)\n"
        "        assert time.monotonic() < end\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=command_env(cache), cwd=REPO, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    process.stdout.close()
    assert process.wait(timeout=60) == code


@pytest.fixture
def alone(monkeypatch):
    """An environment without variables of a cluster."""
    for name in list(cluster.os.environ):
        if name.startswith(("JAX_", "SLURM_", "OMPI_", "KUBERNETES_", "JOB_", "TPU_")):
            if name != "JAX_PLATFORMS":
                monkeypatch.delenv(name)
    return monkeypatch


def test_single_process_opens_no_port(alone):
    assert find_place() is None and find_place(num_processes=1) is None
    before = signal.getsignal(signal.SIGTERM)
    with processes.session(find_place(), 300):
        assert not processes.stop_asked(1)
        processes.check_same("task", {"any": "thing"})
        assert not distributed.global_state.client
    assert signal.getsignal(signal.SIGTERM) == before


def test_place_from_flags_and_variables(alone):
    assert find_place("h:1", 2, 1) == Place("h:1", 2, 1)
    alone.setenv("JAX_COORDINATOR_ADDRESS", "host:1234")
    alone.setenv("JAX_NUM_PROCESSES", "4")
    alone.setenv("JAX_PROCESS_ID", "3")
    assert find_place() == Place("host:1234", 4, 3)
    assert find_place(process_id=0) == Place("host:1234", 4, 0)
    assert find_place(num_processes=1, process_id=0) is None
    alone.setenv("JAX_PROCESS_ID", "three")
    with pytest.raises(ConfigError, match="JAX_PROCESS_ID='three'"):
        find_place()


@pytest.mark.parametrize("times, message", [((4, 9), "timeout=4"), ((5, -1), "stall=-1")])
def test_wrong_times(times, message):
    with pytest.raises(ConfigError, match=f"config.processes.{message}: must be"):
        processes.session(None, *times).__enter__()


@pytest.mark.parametrize(
    "flags, message",
    [
        (("h:1", 2, None), "--process_id missing"),
        (("h:1", None, None), "--num_processes and --process_id missing"),
        ((None, 2, 0), "--coordinator missing"),
        (("h:1", 2, 2), "--process_id=2 of --num_processes=2"),
        (("h:1", 0, 0), "--num_processes=0"),
        (("h", 2, 0), "--coordinator=h: not HOST:PORT"),
    ],
)
def test_wrong_flags(flags, message, alone):
    with pytest.raises(ConfigError, match=re.escape(message)):
        find_place(*flags)


def set_slurm(environment, tasks: str, per_node: str) -> None:
    for key, value in {
        "SLURM_JOB_ID": "8",
        "SLURM_STEP_NODELIST": "node[007-9],other",
        "SLURM_NTASKS": tasks,
        "SLURM_PROCID": "2" if int(tasks) > 2 else "0",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_TASKS_PER_NODE": per_node,
    }.items():
        environment.setenv(key, value)


def test_place_from_slurm(alone):
    set_slurm(alone, "1", "1")
    assert find_place() is None
    set_slurm(alone, "6", "2(x3)")
    place = find_place()
    assert (place.count, place.index, place.devices) == (6, 2, [0])
    assert re.fullmatch(r"node007:\d+", place.coordinator)
    alone.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert find_place().devices is None
    alone.delenv("CUDA_VISIBLE_DEVICES")
    # The only task of a node uses all of its devices.
    set_slurm(alone, "6", "1(x6)")
    assert find_place().devices is None
    assert find_place("h:1", 2, 0) == Place("h:1", 2, 0)


def test_tpu_pod_and_single_tpu(alone):
    for module in (clusters.cloud_tpu_cluster, cloud_tpu_init):
        alone.setattr(module, "running_in_cloud_tpu_vm", True)
    alone.setattr(clusters.cloud_tpu_cluster.socket, "gethostbyname", lambda name: "10.0.0.1")
    alone.setenv("TPU_SKIP_MDS_QUERY", "1")
    alone.setenv("MEGASCALE_COORDINATOR_ADDRESS", "worker-0")
    alone.setenv("MEGASCALE_NUM_SLICES", "1")
    alone.setenv("MEGASCALE_SLICE_ID", "0")
    alone.setenv("TPU_WORKER_ID", "1")
    alone.setenv("TPU_WORKER_HOSTNAMES", "worker-0,worker-1")
    place = find_place()
    assert (place.count, place.index, place.devices) == (2, 1, None)
    assert place.coordinator.startswith("worker-0:")
    alone.setenv("TPU_WORKER_HOSTNAMES", "worker-0")
    assert find_place() is None
