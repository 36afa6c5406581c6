"""Exit codes and error messages when output or files can't be written."""

import subprocess
import sys

import pytest

from tests.conftest import REPO

PROGRAM = "import sys\nfrom imgcls.core import cli\ndef main():\n    {}\ncli.run(main)"


def run(body: str, out=subprocess.PIPE):
    line = [sys.executable, "-c", PROGRAM.format(body)]
    return subprocess.run(line, cwd=REPO, stdout=out, stderr=subprocess.PIPE, text=True)


def test_write_errors_are_one_line(tmp_path):
    body = f"print('before'); open({str(tmp_path)!r} + '/a', 'w').truncate(1 << 62)"
    done = run(f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50)); {body}")
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert done.stderr == "error: File too large\n"
    done = run("raise PermissionError(13, 'Permission denied', '/run/x')")
    assert (done.returncode, done.stderr) == (1, "error: /run/x: Permission denied\n")


def test_full_disk_error_names_the_file(small_disk):
    with small_disk(100_000) as disk:
        write = f"replace_bytes({str(disk / 'a')!r}, bytes(200_000))"
        body = f"from imgcls.core.storage import replace_bytes; {write}"
        done = run(body)
        assert done.stderr == f"error: {disk / 'a'}: No space left on device\n"
        assert done.returncode == 1 and list(disk.iterdir()) == []


@pytest.mark.parametrize("count", [1, 100_000])
def test_output_to_a_full_disk(count):
    with open("/dev/full", "w") as full:
        done = run(f"print('x' * {count})", full)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


def test_other_os_errors_have_a_traceback():
    done = run("open('/no/such/file')")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_log_that_may_not_grow_does_not_stop_the_work(tmp_path):
    """As with `ulimit -f`, a quota or a full disk; the error comes at the end, in one line."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))"
    work = "from imgcls.core import log; [log.result('x' * 15) for _ in range(4)]"
    with open(tmp_path / "log", "w") as out:
        done = run(f"{limit}; {work}; print('worked', file=sys.stderr)", out)
    assert (tmp_path / "log").read_text() == "x" * 15 + "\n" + "x" * 4
    assert (done.returncode, done.stderr) == (1, "worked\nerror: File too large\n")
