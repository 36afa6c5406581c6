"""Manifests with files in place of images."""

import pytest

from tests.data.own import write_csv


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest and its images: `manifest(rows, header) -> source`."""

    def make(rows: list[tuple], header=("path", "label"), write_images: bool = True) -> str:
        for row in rows if write_images else []:
            (tmp_path / row[0]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / row[0]).write_bytes(row[0].encode())
        return f"manifest:{write_csv(tmp_path / 'm.csv', list(header), rows)}"

    return make
