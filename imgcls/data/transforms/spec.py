"""Parser of transform recipes: `'random_resized_crop(224, scale=(0.2, 1.0))|flip'` -> callables.

A recipe is a chain of registered names separated by `|`, each with optional literal arguments.
"""

import ast
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Mapping
from typing import Any

from imgcls.core.errors import ConfigError, did_you_mean


def parse(text: str, registry: Mapping[str, Callable], where: str) -> list:
    """Builds the transforms of a recipe, in order.

    Args:
      text: the recipe; a blank one has no transforms.
      registry: factories by name; their signatures define the valid arguments.
      where: the config key of `text`, for messages.

    Returns:
      List of the transforms returned by the factories.

    Raises:
      ConfigError: invalid syntax, unknown name, or invalid argument.
    """
    if not text.strip():
        return []
    return [_build(part.strip(), registry, where) for part in text.split("|")]


def calls(text: str, where: str) -> list[tuple[str, list, dict[str, Any]]]:
    """Names and arguments of the transforms of a recipe, in order.

    Args:
      text: recipe; blank means no transforms.
      where: config key of `text`, for messages.

    Raises:
      ConfigError: invalid syntax.
    """
    return [_parse_call(part.strip(), where) for part in text.split("|") if text.strip()]


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raises a ValueError unless `value` is a number in [low, high]."""
    # Comparisons with NaN are false, so NaN is refused as well.
    if not (isinstance(value, numbers.Real) and low <= float(value) <= high):
        raise ValueError(f"{name}={value!r} must be a number {_interval(low, high)}")


def check_integer(name: str, value: Any, low: int) -> None:
    """Raises a ValueError unless `value` is an integer of at least `low`."""
    if not (isinstance(value, int) and value >= low):
        raise ValueError(f"{name}={value!r} must be an integer of at least {low}")


def check_range(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raises a ValueError unless `value` is a pair of ascending numbers in [low, high]."""
    pair = value if isinstance(value, tuple | list) and len(value) == 2 else ()
    is_number = [isinstance(v, numbers.Real) for v in pair]
    if not pair or not all(is_number) or not low <= pair[0] <= pair[1] <= high:
        raise ValueError(f"{name}={value!r} must be a pair (low, high) {_interval(low, high)}")


def check_choice(name: str, value: Any, valid: Collection[Any]) -> None:
    """Raises a ValueError unless `value` is one of `valid`."""
    if value not in valid:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(str, valid))}")


def _interval(low: float, high: float) -> str:
    return f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"


def _build(part: str, registry: Mapping[str, Callable], where: str) -> Any:
    name, args, kwargs = _parse_call(part, where)
    if name not in registry:
        raise ConfigError(
            f"{where}: unknown transform {name!r}{did_you_mean(name, registry)}; "
            f"valid: {', '.join(sorted(registry))}"
        )
    factory = registry[name]
    signature = inspect.signature(factory)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as e:
        raise ConfigError(f"{where}: {part}: {e}; valid: {name}{_arguments(signature)}") from e
    try:
        return factory(*args, **kwargs)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{where}: {part}: {e}") from e


def _parse_call(part: str, where: str) -> tuple[str, list, dict[str, Any]]:
    """`'name'` or `'name(literals)'` -> name, positional and keyword arguments."""
    try:
        node = ast.parse(part, mode="eval").body
    except (SyntaxError, ValueError):
        node = None
    if isinstance(node, ast.Name):
        return node.id, [], {}
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise ConfigError(
            f"{where}: can't read {part!r}; write transforms as name or name(arguments), with "
            "a single | between two of them"
        )
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        kwargs = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg is not None}
    except ValueError as e:
        raise ConfigError(
            f"{where}: {part}: arguments must be written out as numbers, strings or tuples, "
            "without names or arithmetic"
        ) from e
    if len(kwargs) < len(node.keywords):
        raise ConfigError(f"{where}: {part}: write every keyword once, without **")
    return node.func.id, args, kwargs


def _arguments(signature: inspect.Signature) -> str:
    """`(size, p=0.5)`: the signature without its annotations."""
    parameters = signature.parameters.values()
    return str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters]))
