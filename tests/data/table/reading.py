"""Names and problems of sources."""

import os

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import open_dataset
from imgcls.data.table.problems import Problems


def names(source) -> list[str]:
    return [os.path.basename(source.name(i)) for i in range(len(source))]


def skipped(spec: str, **options) -> Problems:
    """The problems that a source skips; with 'fail', its error names the same problems."""
    data = open_dataset(spec, on_error="skip", **options)
    problems = data.open(data.splits[0]).problems
    with pytest.raises(ConfigError) as error:
        open_dataset(spec, **options)
    assert str(error.value).startswith(f"{spec}: ") and "\n" not in str(error.value)
    assert str(error.value).endswith("; fix the file or set config.data.on_error=skip")
    for kind, count in problems.counts.items():
        assert f"{count} x {kind} ({', '.join(problems.names[kind][:3])}" in str(error.value)
    return problems
