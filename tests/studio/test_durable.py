"""A tag that was acknowledged survives SIGKILL of the server; one server serves a home.

`pytest -m slow tests/studio/test_durable.py` kills a hundred times, on both databases.
"""

import signal
import subprocess
import sys

import pytest

from tests.studio import kills


def test_acknowledged_tags_survive_kills(tmp_path):
    counts = kills.run(tmp_path / "home", 4)
    assert counts["requests"] > 10 and counts["kills_amid_writes"] >= 1


@pytest.mark.slow
def test_acknowledged_tags_survive_a_hundred_kills(tmp_path, database_url):
    counts = kills.run(tmp_path / "home", 100, database_url)
    print(counts)
    assert counts["kills_amid_writes"] >= 80


def test_a_home_has_one_server(tmp_path):
    home, *_ = kills.make_home(tmp_path / "home")
    server = kills.Server(home)
    try:
        line = [sys.executable, "-m", "imgcls.studio", f"--home={home.root}", "--port=0"]
        done = subprocess.run([*line, "--no_browser"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "another server uses it" in done.stderr
        assert done.stderr.count("\n") == 1
    finally:
        server.kill()
    again = kills.Server(home)  # A killed server leaves no lock behind.
    again.kill(signal.SIGTERM)
