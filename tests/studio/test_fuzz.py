"""Requests that schemathesis draws from the API's description: none ends in an error of the server.

`pip install schemathesis`, then `pytest -m slow tests/studio/test_fuzz.py`.
"""

import json
import pathlib
import shutil
import signal
import subprocess
import sys

import httpx
import pytest

from tests.studio import kills

PROGRAM = shutil.which("schemathesis", path=str(pathlib.Path(sys.executable).parent))
# Ids that there are, beside those that there are not.
KNOWN = {"dataset": [1, 2], "image": [1, 2, 3], "number": [1, 99], "version": [1, 2], "run": [1, 2]}
# The first never ends; the others would lock the tester out.
LEFT_OUT = ("/api/events", "/api/users", "/api/users/{number}", "/api/logout")


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="needs schemathesis: pip install schemathesis")
@pytest.mark.parametrize("seed", [1, 2])
def test_no_request_ends_in_an_error_of_the_server(tmp_path, database_url, seed):
    home, images, classes = kills.make_home(tmp_path / "home", database_url)
    server = kills.Server(home, database_url)
    try:
        schema = httpx.get(f"{server.url}/openapi.json").json()
        for path in LEFT_OUT:
            assert schema["paths"].pop(path)
        for operations in schema["paths"].values():
            for operation in operations.values():
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "path" and parameter["name"] in KNOWN:
                        parameter["schema"] = {"enum": [*KNOWN[parameter["name"]], 2**31]}
        (tmp_path / "openapi.json").write_text(json.dumps(schema))
        line = [PROGRAM, "run", "openapi.json", f"--url={server.url}", f"--seed={seed}"]
        line += ["--checks=not_a_server_error", "--phases=coverage,fuzzing", "--max-examples=30"]
        done = subprocess.run(
            [*line, "--no-color", "--warnings=off"], capture_output=True, text=True, cwd=tmp_path
        )
    finally:
        server.kill(signal.SIGTERM)
    assert done.returncode == 0, done.stdout[-5000:]
