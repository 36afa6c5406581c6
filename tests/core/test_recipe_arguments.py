"""Arguments of a recipe: commas, quotes, missing ones and text in place of numbers."""

import pytest

from imgcls.core.config import load
from imgcls.core.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "data", "total"),
    [
        ("data=folder:/my,pictures,epochs=3", "folder:/my,pictures", "3 epochs"),
        ("epochs=3,data=folder:/my,pictures", "folder:/my,pictures", "3 epochs"),
        ("data='folder:/a,size=2',epochs=4", "folder:/a,size=2", "4 epochs"),
        ('data="folder:/a,size=2"', "folder:/a,size=2", "auto"),
        ("data=folder:/Anna's, and Ben's,epochs=3,", "folder:/Anna's, and Ben's", "3 epochs"),
    ],
)
def test_commas_in_the_path_of_the_data(arguments, data, total):
    config = load(f"configs/own.py:{arguments}")
    assert config.data.source == data and config.total == total


def test_a_missing_argument_is_one_line():
    with pytest.raises(ConfigError) as error:
        load("configs/own.py")
    text = str(error.value)
    assert text.startswith("--config=configs/own.py: needs the argument data (source of the")
    assert text.endswith("; write --config=configs/own.py:data=VALUE") and "\n" not in text


def test_text_in_place_of_a_number():
    with pytest.raises(ConfigError, match="size='big': must be of type int"):
        load("configs/own.py:data=folder:/a,size=big")
