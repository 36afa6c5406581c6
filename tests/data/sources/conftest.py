"""Sources of class folders, unpacked and zipped."""

import pytest

from imgcls.data.sources.open import create_source
from tests.data.sources.trees import write_images, write_zip


@pytest.fixture(params=["folder", "zip"])
def make_source(request, tmp_path):
    """Opens a tree of images, unpacked or zipped: `make_source(files, split) -> source`."""

    def make(files: list[str], split: str, seed: int = 0):
        root = tmp_path / "tree"
        if not root.exists():
            write_images(root, files)
        path = str(root) if request.param == "folder" else write_zip(tmp_path / "tree.zip", root)
        return create_source(f"folder:{path}", split, seed=seed)

    return make
