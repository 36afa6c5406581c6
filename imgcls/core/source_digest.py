"""A digest of the package's source, so that programs compiled from other code are not loaded."""

import hashlib
import pathlib


def source_digest() -> str:
    """SHA-256 of the paths and contents of all Python files of this package, in hexadecimal."""
    root, digest = pathlib.Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
