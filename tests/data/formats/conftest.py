"""Images for label files."""

import pytest


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Creates files in place of images; opening a dataset only checks that they exist."""

    def make(*paths: str):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(path.encode())
        return tmp_path

    return make
