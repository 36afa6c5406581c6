"""Kinds of sources: unknown names, and kinds registered by a file of their own."""

import importlib

import pytest
from PIL import Image

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import create_source


@pytest.mark.parametrize(
    "spec",
    [
        "digit",
        "digits:x",
        "folder:",
        "folder",
        "tfds:",
        "",
        "http://x",
        "coco",
        "manifest:",
    ],
)
def test_unknown_source(spec):
    with pytest.raises(ConfigError, match="unknown.*; write one of ") as error:
        create_source(spec, "train")
    for kind in (
        " digits,",
        "folder:PATH",
        "tfds:NAME",
        "manifest:",
        "darwin:",
        "labelstudio:",
        "coco:",
        "records:",
    ):
        assert kind in str(error.value)


def test_a_misspelled_source_gets_a_suggestion():
    with pytest.raises(ConfigError, match="unknown; did you mean 'manifest'?"):
        create_source("manifst:/x.csv", "train")


FORMAT = """
from imgcls.data.formats.format import register_format

@register_format("lines_test", suffixes=(".lines",))
def read_lines(path, table):
    '''One image and label per line.'''
    for line in open(path):
        path, label = line.split(":")
        table.add(path, [label])
"""
SOURCE = """
import numpy as np
from imgcls.data.sources.source import Dataset, register_source
from imgcls.data.sources.digits import DigitsSource

@register_source("tiny_test", "COUNT")
def open_tiny(path, options):
    '''Some digits.'''
    return Dataset(("train",), lambda split: DigitsSource(f"train[:{path}]", options.seed))
"""


def test_a_new_format_and_a_new_source_need_one_file_each(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_format.py").write_text(FORMAT)
    (tmp_path / "my_source.py").write_text(SOURCE)
    importlib.import_module("my_format")
    importlib.import_module("my_source")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "all.lines").write_text("a.png:cat\nb.png:dog\n")
    source = create_source(f"lines_test:{tmp_path}", "train")
    assert source.class_names == ("cat", "dog")
    assert len(create_source("tiny_test:30", "train")) == 30
    with pytest.raises(ConfigError, match="tiny_test:COUNT"):
        create_source("tiny_test", "train")
