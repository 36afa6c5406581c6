"""The settings to search: `optim.learning_rate=log(1e-4,1e-1)`, `model.name=choice(a,b)`."""

import ast
import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import optuna

# What may stand behind the `=`, with an example.
FORMS = {
    "log": "log(1e-4,1e-1)",
    "float": "float(0,0.3)",
    "int": "int(32,256)",
    "range": "range(5)",
    "choice": "choice(a,b)",
}
# Largest number of points of a grid.
MOST_POINTS = 10_000


@dataclasses.dataclass(frozen=True)
class Dimension:
    """A key of the config and the values that it may have.

    Attributes:
      key: key, such as 'optim.learning_rate'.
      text: its range as the user wrote it.
      kind: key of `FORMS`; a 'log' or 'float' with a number of points is a 'choice'.
      low, high, step: bounds, both included, and the step of integers.
      choices: values of a 'choice', as text.
    """

    key: str
    text: str
    kind: str
    low: float = 0
    high: float = 0
    step: int = 1
    choices: tuple[str, ...] = ()

    def suggest(self, trial: "optuna.Trial") -> str | float | int:
        """The value of a trial, as the study's sampler draws it."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.key, self.choices)
        if self.kind in ("int", "range"):
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=self.step)
        return trial.suggest_float(self.key, self.low, self.high, log=self.kind == "log")

    def points(self) -> list[str | int] | None:
        """All values, in order; None if there is an infinite number."""
        if self.kind == "choice":
            return list(self.choices)
        if self.kind in ("int", "range"):
            return list(range(int(self.low), int(self.high) + 1, self.step))
        return None

    def examples(self) -> list[str | float | int]:
        """Values that show whether the config takes the key and its type."""
        return [*self.choices] if self.kind == "choice" else [self.low, self.high]


def override_of(key: str, value: object) -> str:
    """The argument that sets a key: `--config.optim.learning_rate=0.1`."""
    return f"--config.{key}={value}"


def read_space(texts: Iterable[str]) -> list[Dimension]:
    """Reads `KEY=RANGE` arguments.

    Raises:
      ConfigError: another form, a range without values, or a key that is named twice.
    """
    space = [_read(text) for text in texts]
    keys = [d.key for d in space]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{key}: is given {keys.count(key)} times; write one range")
    if not space:
        raise ConfigError(
            f"nothing to search: name a range, such as 'optim.learning_rate={FORMS['log']}'"
        )
    return space


def read_mapping(space: Mapping[str, object] | Iterable[str]) -> list[str]:
    """`KEY=RANGE` texts of a dict; a list or tuple of values is a choice."""
    if not isinstance(space, Mapping):
        return list(space)
    return [
        f"{key}=choice({','.join(map(str, value))})"
        if isinstance(value, list | tuple)
        else f"{key}=range({value.start},{value.stop},{value.step})"
        if isinstance(value, range)
        else f"{key}={value}"
        for key, value in space.items()
    ]


def _read(text: str) -> Dimension:
    match = re.fullmatch(r"([\w.]+)=(\w+)\((.*)\)", text.strip(), re.DOTALL)
    if not match:
        raise ConfigError(f"{text}: not understood; write KEY=RANGE with {_forms()}")
    key, kind, inside = match.groups()
    if kind not in FORMS:
        raise ConfigError(f"{text}: no range {kind!r}{did_you_mean(kind, FORMS)}; write {_forms()}")
    words, form = _split(inside), text.partition("=")[2]
    if kind == "choice":
        if not words or len(set(words)) < len(words):
            raise ConfigError(f"{text}: needs values that differ, such as {FORMS['choice']}")
        return Dimension(key, form, "choice", choices=tuple(words))
    numbers = [_number(word, text) for word in words]
    if kind in ("int", "range"):
        return _integers(key, form, kind, numbers, text)
    return _floats(key, form, kind, numbers, text)


def _integers(key: str, form: str, kind: str, numbers: list[float], text: str) -> Dimension:
    if any(number != int(number) for number in numbers):
        raise ConfigError(f"{text}: takes whole numbers")
    if not (1 if kind == "range" else 2) <= len(numbers) <= 3:
        raise ConfigError(f"{text}: write {kind}(LOW,HIGH), such as {FORMS[kind]}")
    low, high, step = ([0, numbers[0], 1] if len(numbers) == 1 else [*numbers, 1])[:3]
    if step < 1:
        raise ConfigError(f"{text}: the step must be above 0")
    if kind == "range":
        high -= 1
    if high < low:
        raise ConfigError(f"{text}: has no values, as the end is below the start")
    last = low + (high - low) // step * step
    return Dimension(key, form, kind, low, last, int(step))


def _floats(key: str, form: str, kind: str, numbers: list[float], text: str) -> Dimension:
    if len(numbers) not in (2, 3):
        raise ConfigError(f"{text}: write {kind}(LOW,HIGH), such as {FORMS[kind]}")
    low, high, *points = numbers
    if not low < high:
        raise ConfigError(f"{text}: the low end must be below the high one")
    if kind == "log" and low <= 0:
        raise ConfigError(f"{text}: a logarithmic range must begin above 0")
    if not points:
        return Dimension(key, form, kind, low, high)
    count = int(points[0])
    if count != points[0] or count < 2:
        raise ConfigError(f"{text}: the third value is the number of points, at least 2")
    shares = [i / (count - 1) for i in range(count)]
    if kind == "log":
        values = [math.exp(math.log(low) + s * math.log(high / low)) for s in shares]
    else:
        values = [low + s * (high - low) for s in shares]
    # Twelve digits: 0.01 and not 0.010000000000000002.
    rounded = tuple(repr(float(f"{value:.12g}")) for value in values)
    return Dimension(key, form, "choice", choices=rounded)


def _split(text: str) -> list[str]:
    """Splits at the commas that are outside of brackets and quotes."""
    words, depth, quote, word = [], 0, "", ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and not depth:
            words, word = [*words, word], ""
            continue
        word += c
    words = [w.strip() for w in [*words, word]]
    return [_unquoted(w) for w in words if w]


def _unquoted(word: str) -> str:
    if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"":
        return str(ast.literal_eval(word))
    return word


def _number(word: str, text: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{text}: {word!r} is not a number")
    return number


def _forms() -> str:
    return ", ".join(FORMS.values())


def check_keys(config: ConfigDict, space: list[Dimension]) -> None:
    """Raises a ConfigError if the config lacks a key or a value is of the wrong type."""
    for dimension in space:
        for value in dimension.examples():
            number = int(value) if dimension.kind in ("int", "range") else value
            trial = config.copy_and_resolve_references()
            config_lib.override(trial, [override_of(dimension.key, number)])


def grid_of(space: list[Dimension]) -> list[dict[str, str | int]]:
    """All combinations of the values; the last key changes fastest.

    Raises:
      ConfigError: a range has no end of values, or there are too many.
    """
    points: list[list[str | int]] = []
    for dimension in space:
        values = dimension.points()
        if values is None:
            form = f"{dimension.text.rstrip(')')},5)"
            raise ConfigError(
                f"{dimension.key}={dimension.text}: a grid needs a number of points; write {form} "
                "or choice(...), or --sampler=tpe or random"
            )
        points.append(values)
    count = math.prod(map(len, points))
    if count > MOST_POINTS:
        raise ConfigError(
            f"--sampler=grid: {count:,} points are more than {MOST_POINTS:,}; write choice(...) or "
            "a step as int(LOW,HIGH,STEP), or --sampler=tpe or random"
        )
    keys = [dimension.key for dimension in space]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*points)]


def checks_of(space: list[Dimension]) -> list[list[str]]:
    """Overrides of the configs to set up before the first trial.

    The first has the first value of every key; each other has one more choice, or the other end of
    a range of integers, such as a batch size. Seeds and other `range(...)` are not tried.
    """
    first = [override_of(d.key, _first(d)) for d in space]
    others = [
        [*first, override_of(d.key, value)]
        for d in space
        for value in (d.choices[1:] if d.kind == "choice" else [int(d.high)])
        if d.kind in ("choice", "int")
    ]
    return [first, *others]


def _first(dimension: Dimension) -> str | float | int:
    points = dimension.points()
    return points[0] if points else dimension.low
