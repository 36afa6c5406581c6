"""Forked commands are what Python starts, to their end."""

import subprocess
import sys

import pytest

from tests import forking
from tests.conftest import REPO, command_env, command_line

SCRIPT = """
import atexit, json, os, sys
import imgcls
atexit.register(print, "the end")
print(__name__, sys.argv, sys.path[:2], os.getcwd(), sys.stdin.read(), flush=True)
print(json.dumps(dict(os.environ), sort_keys=True), sys.modules["__main__"].__file__)
print("wrong", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize("as_module", [False, True])
def test_a_command_runs_as_in_python(as_module, cache, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    first = ("-m", "script") if as_module else (tmp_path / "script.py",)
    line = [sys.executable, *first, "--flag", "a b"]
    env = command_env(cache, 3) | {"PYTHONPATH": str(REPO)}
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    expected = subprocess.run(line, env=env, cwd=tmp_path, **streams)
    found = forking.run(line, env, tmp_path, 60)
    assert expected.returncode == 3 and "the end" in expected.stdout
    assert (found.returncode, found.stderr) == (expected.returncode, expected.stderr)
    assert found.stdout == expected.stdout


def test_a_command_that_is_killed(cache, tmp_path):
    (tmp_path / "script.py").write_text("import time; print('up', flush=True); time.sleep(60)")
    line, env = [sys.executable, tmp_path / "script.py"], command_env(cache)
    process = forking.start(line, env, tmp_path, subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait(60) == -9 and process.stdout.read() == ""
    with pytest.raises(subprocess.TimeoutExpired):
        forking.run(line, env, tmp_path, 0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks commands")
def test_a_variable_that_imports_may_read_starts_python(cache):
    line = command_line("main", "--help")
    started = forking.start(line, command_env(cache), REPO, subprocess.PIPE)
    assert isinstance(started, forking.Process) and started.wait(60) == 0
    env = command_env(cache) | {"JAX_ENABLE_X64": "1"}
    started = forking.start(line, env, REPO, subprocess.PIPE)
    assert isinstance(started, subprocess.Popen) and started.wait(60) == 0
