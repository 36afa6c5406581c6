"""The restart loop: what starts again, when it gives up, and what a signal does."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.conftest import LAUNCH

# Ends with the next of the codes in $CODES, and after `c` has written a checkpoint before.
PLAN = """
started=$(cat "$NOTES/started" 2> /dev/null || echo 0)
echo $((started + 1)) > "$NOTES/started"
codes=($CODES)
code=${codes[$started]}
if [[ $code == *c ]]; then mkdir -p "$NOTES/checkpoints/$((started + 1))"; fi
exit "${code%c}"
"""


@pytest.fixture
def follow(launch, tmp_path):
    """Runs a command that ends with these codes; returns the loop's code, starts, and messages."""

    def run(codes: str, **env: str):
        command = ("bash", "-c", PLAN, "plan", f"--workdir={tmp_path}")
        done = launch("until_done.sh", *command, CODES=codes, NOTES=str(tmp_path), **env)
        return done.returncode, int((tmp_path / "started").read_text()), done.stderr

    return run


@pytest.mark.parametrize("code", [0, 1, 2])
def test_done_and_mistakes_end_it(code, follow):
    assert follow(f"{code} 0") == (code, 1, "")


def test_interruptions_and_crashes_start_again(follow):
    code, started, told = follow("75 139 75 137 3 0")
    assert (code, started) == (0, 6)
    assert [line.split(":")[1].strip() for line in told.splitlines()] == [
        f"exit {code}" for code in (75, 139, 75, 137, 3)
    ]


def test_gives_up_after_five_crashes(follow):
    code, started, told = follow("139 75 139 3 3 137 0")
    assert (code, started) == (137, 6)
    assert "given up, 5 crashes and 1 interruptions without a new checkpoint" in told


def test_gives_up_after_twenty_interruptions(follow):
    code, started, _ = follow("75 " * 30)
    assert (code, started) == (75, 20)


def test_a_new_checkpoint_resets_the_count(follow):
    code, started, _ = follow("3 3 3 3c 3 3 3 75c 3 3 3 3 0")
    assert (code, started) == (0, 13)


def test_only_whole_and_newer_checkpoints_count(follow, tmp_path):
    (tmp_path / "checkpoints" / "90").mkdir(parents=True)
    (tmp_path / "checkpoints" / "95.orbax-checkpoint-tmp").mkdir()
    code, started, _ = follow("3 3c 3 3 3c 0")  # 2 and 5
    assert (code, started) == (3, 5)


def test_pauses_grow(follow):
    began = time.monotonic()
    code, started, told = follow("75 75 3 75 3 0", IMGCLS_PAUSE="1")
    assert (code, started) == (0, 6)
    assert time.monotonic() - began >= 3
    pauses = [line.split(" again in ")[1] for line in told.splitlines()]
    assert pauses == [f"{n} seconds" for n in (0, 0, 1, 0, 2)]


def test_dry_run_starts_nothing(launch, tmp_path):
    done = launch("until_done.sh", "--dry_run", "touch", f"{tmp_path}/a b", "--c=(1, 1)")
    assert (done.returncode, list(tmp_path.iterdir())) == (0, [])
    shown = done.stdout.split(" # ")[0]
    assert subprocess.check_output(["bash", "-c", f"printf '%s\\n' {shown}"], text=True) == (
        f"touch\n{tmp_path}/a b\n--c=(1, 1)\n"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc's")
@pytest.mark.parametrize(
    "env, seen",
    [
        ({"JAX_PLATFORMS": "cpu"}, "glibc.malloc.hugetlb=1"),
        ({"JAX_PLATFORMS": "cuda"}, "none"),
        (
            {"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": "glibc.malloc.check=1"},
            "glibc.malloc.check=1",
        ),
        ({"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": ""}, ""),
    ],
)
def test_huge_pages_on_a_cpu(env, seen, launch, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    done = launch("until_done.sh", "bash", "-c", 'echo "${GLIBC_TUNABLES-none}"', **env)
    assert (done.returncode, done.stdout) == (0, f"{seen}\n")


def test_no_command(launch):
    done = launch("until_done.sh")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


# Counts SIGTERMs; `$1` tenths of a second after the first it ends with `$2`.
TRAPPER = """
terms=0
trap 'terms=$((terms + 1)); echo "term $terms"' TERM
echo started
until ((terms)); do sleep 0.05; done
for ((i = 0; i < $1; i++)); do sleep 0.1; done
echo ended
exit "$2"
"""


def start(*command: str, **env: str) -> subprocess.Popen:
    # A shell's background job ignores it, and so would all that it starts.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [LAUNCH / "until_done.sh", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | env,
        text=True,
    )
    signal.signal(signal.SIGINT, handler)
    assert process.stdout.readline() == "started\n"
    return process


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_is_passed_on_and_nothing_starts_again(name):
    process = start("bash", "-c", TRAPPER, "trapper", "3", "75")
    process.send_signal(getattr(signal, name))
    printed, _ = process.communicate(timeout=60)
    assert (process.returncode, printed) == (75, "term 1\nended\n")


def test_a_second_signal_is_passed_on_too():
    process = start("bash", "-c", TRAPPER, "trapper", "10", "143")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "term 1\n"
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert (process.returncode, printed) == (143, "term 2\nended\n")


def test_a_signal_during_a_pause_ends_it():
    process = start("bash", "-c", "echo started; exit 9", IMGCLS_PAUSE="100")
    assert "again in 100 seconds" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 9
