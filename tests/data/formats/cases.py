"""Writes label files and reads them back."""

import json
import os

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import open_dataset


def write(folder, name: str, content) -> str:
    """Writes a file of text, bytes or JSON; returns its path."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


def examples(spec: str, **options) -> dict[str, list[str]]:
    """`{path from the root: labels}` of all splits."""
    data, labels_of = open_dataset(spec, **options), {}
    root = options.get("data_dir") or os.path.dirname(spec.partition(":")[2])
    for split in data.splits:
        source = data.open(split)
        for i, label in enumerate(source.labels()):
            numbers = label.nonzero()[0] if source.multi_label else [label]
            path = os.path.relpath(source.name(i), root)
            labels_of[path] = [source.class_names[n] for n in numbers]
            assert source[i]["image"].decode().endswith(path)
    return labels_of


def problems(spec: str, **options):
    """Problems of the source with 'skip'; with 'fail' it raises."""
    with pytest.raises(ConfigError, match="fix the file or set config.data.on_error=skip"):
        open_dataset(spec, **options)
    data = open_dataset(spec, on_error="skip", **options)
    return data.open(data.splits[0]).problems
