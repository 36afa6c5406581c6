"""The launcher for TPU VMs, with a stand-in for gcloud that notes what is typed."""

import subprocess

import pytest

WHERE = ("--name=pod", "--zone=z", "--project=p")
SLICE = ("--accelerator=v5litepod-16", "--runtime=v2-alpha-tpuv5-lite", "--spot")
RUN = ("--config=configs/digits.py", "--workdir=/mnt/runs/1", "--config.total=20 steps")
AT = ["--zone=z", "--project=p"]
TPUS = ["gcloud", "compute", "tpus"]


@pytest.fixture
def tpu(launch, programs):
    programs.add("gcloud")

    def run(*args: str):
        return launch("tpu_vm.sh", *args, **programs.env)

    return run


def test_create(tpu, programs):
    assert tpu("create", *WHERE, *SLICE).returncode == 0
    (call,) = programs.calls
    assert call == [
        *[*TPUS, "queued-resources", "create", "pod", "--node-id=pod", *AT],
        "--accelerator-type=v5litepod-16",
        *["--runtime-version=v2-alpha-tpuv5-lite", "--spot"],
    ]


@pytest.mark.parametrize("last, code", [("ACTIVE", 0), ("FAILED", 75), ("SUSPENDED", 75)])
def test_wait(last, code, tpu, programs):
    programs.answer("echo WAITING_FOR_RESOURCES", "echo PROVISIONING", f"echo {last}")
    assert tpu("wait", *WHERE).returncode == code
    assert len(programs.calls) == 3
    assert programs.calls[0][3:6] == ["queued-resources", "describe", "pod"]


def test_install(tpu, programs):
    programs.answer('cp "$5" "$here/archive"')
    assert tpu("install", *WHERE).returncode == 0
    copy, setup = programs.calls
    assert copy[3:5] == ["tpu-vm", "scp"] and copy[6:] == ["pod:imgcls.tar.gz", *AT, "--worker=all"]
    listed = subprocess.check_output(["tar", "-tf", programs.folder / "archive"], text=True)
    assert {
        "requirements.txt",
        "requirements-tpu.txt",
        "imgcls/main.py",
        "launch/until_done.sh",
    } <= set(listed.split())
    assert setup[3:] == ["tpu-vm", "ssh", "pod", *AT, "--worker=all", setup[-1]]
    script = setup[-1].removeprefix("--command=")
    assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0
    assert "-r imgcls/requirements.txt -r imgcls/requirements-tpu.txt" in script


def test_run_keeps_the_arguments_whole(tpu, programs, tmp_path):
    """What the machines' shell makes of the line is what was typed here."""
    programs.answer("echo 'tpu_vm: exit 0'")
    odd = "--config.data.train_transform=pad_crop(8, padding=1)|flip; 'a' \"b\" $HOME `c` é"
    assert tpu("run", *WHERE, *RUN, odd).returncode == 0
    (call,) = programs.calls
    assert call[3:-1] == ["tpu-vm", "ssh", "pod", *AT, "--worker=all"]
    loop = tmp_path / "imgcls" / "launch" / "until_done.sh"
    loop.parent.mkdir(parents=True)
    loop.write_text("#!/usr/bin/env bash\nprintf '%s\\n' \"$@\"\nexit 7\n")
    loop.chmod(0o755)
    line = call[-1].removeprefix("--command=")
    there = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    printed = there.stdout.splitlines()
    assert printed == [".venv/bin/python", "-m", "imgcls.main", *RUN, odd, "tpu_vm: exit 7"]


@pytest.mark.parametrize(
    "codes, gcloud, expected",
    [
        ("0 0", 0, 0),
        ("0 75", 0, 75),
        ("75 2", 1, 2),
        ("139 75", 0, 139),
        ("1 139", 0, 1),
        ("", 255, 75),
        ("0", 255, 75),
    ],
)
def test_the_code_of_all_machines(codes, gcloud, expected, tpu, programs):
    programs.answer(f"for c in {codes}; do echo tpu_vm: exit $c; done\nexit {gcloud}")
    assert tpu("run", *WHERE, *RUN).returncode == expected


def test_a_slice_that_was_taken_away_is_asked_for_again(launch, programs):
    programs.add("gcloud")
    programs.answer(
        "exit 1",  # describe: never asked for
        "",  # create
        "echo ACTIVE",
        *("", ""),  # install
        "exit 255",  # run
        "echo SUSPENDED",
        *("", ""),  # delete, create
        "echo ACTIVE",
        *("", ""),  # install
        "echo tpu_vm: exit 0",
    )
    line = ("launch/tpu_vm.sh", "all", *WHERE, *SLICE, *RUN)
    done = launch("until_done.sh", *line, **programs.env)
    assert done.returncode == 0, done.stderr
    verbs = [call[4] for call in programs.calls]
    first = ["describe", "create", "describe", "scp", "ssh", "ssh"]
    assert verbs == [*first, "describe", "delete", *first[1:]]


def test_fetch_and_delete(tpu, programs):
    assert tpu("fetch", *WHERE, "--workdir=/mnt/runs/1", "--to=here").returncode == 0
    assert tpu("delete", *WHERE).returncode == 0
    assert programs.calls == [
        [*TPUS, "tpu-vm", "scp", "--recurse", "pod:/mnt/runs/1", "here", *AT, "--worker=0"],
        [*TPUS, "queued-resources", "delete", "pod", *AT, "--force", "--quiet"],
    ]


def test_dry_run_calls_nothing(tpu, programs):
    done = tpu("all", "--dry_run", *WHERE, *SLICE, *RUN)
    assert done.returncode == 0 and programs.calls == []
    lines = [line for line in done.stdout.splitlines() if line.startswith("gcloud")]
    assert [line.split()[4] for line in lines] == ["create", "scp", "ssh", "ssh"]
    assert tpu("delete", "--dry_run", *WHERE).returncode == 0 and programs.calls == []


@pytest.mark.parametrize(
    "args, told",
    [
        ((), "command missing"),
        (("start",), "command start"),
        (("delete", "--zone=z"), "--name is missing"),
        (("delete", "--name=pod"), "--zone is missing"),
        (("create", *WHERE), "needs --accelerator"),
        (("run", *WHERE, "--config=a.py"), "needs --config and --workdir"),
        (("run", *WHERE, "--workdir=/a"), "needs --config and --workdir"),
        (("all", *WHERE, *SLICE), "needs --config and --workdir"),
        (("fetch", *WHERE, "--workdir=/a"), "needs --workdir and --to"),
        (("delete", *WHERE, "--now"), "takes no --now"),
    ],
)
def test_mistakes(args, told, tpu, programs):
    done = tpu(*args)
    assert done.returncode == 2 and told in done.stderr
    assert len(done.stderr.splitlines()) == 1 and programs.calls == []
