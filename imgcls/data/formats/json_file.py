"""Reads JSON files of labeling tools."""

import json

from imgcls.core.errors import ConfigError


def load_json(path: str, expected: str):
    """Returns the content of a JSON file.

    Args:
      path: path of the file.
      expected: description of the expected content, for messages.

    Raises:
      ConfigError: the file is not JSON (the message gives line and column) or not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except json.JSONDecodeError as e:
        raise ConfigError(
            f"{path}: line {e.lineno}, column {e.colno}: {e.msg}; expected {expected}"
        ) from e
    except (OSError, UnicodeDecodeError, RecursionError) as e:
        raise ConfigError(f"{path}: can't be read ({e}); expected {expected}") from e
