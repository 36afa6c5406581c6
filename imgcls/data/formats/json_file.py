"""JSON files as label tools write them."""

import json

from imgcls.core.errors import ConfigError


def load_json(path: str, expected: str):
    """What a JSON file holds.

    Args:
      path: of the file.
      expected: what it should be, for the message.

    Raises:
      ConfigError: no JSON, with line and column, or no UTF-8.
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
