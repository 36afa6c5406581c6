"""A digest of the whole package, so that compiled programs of other code are not loaded."""

import hashlib
import pathlib


def source_digest() -> str:
    """A digest of this package's source."""
    root, digest = pathlib.Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
