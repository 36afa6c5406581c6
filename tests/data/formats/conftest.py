"""Files that label files name."""

import pytest


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Makes files that are there, which is all that opening asks for."""

    def make(*paths: str):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(path.encode())
        return tmp_path

    return make
