"""Registries of the parts of an experiment: models, losses, objectives, sources, and so on.

A part is registered where it is defined, so that a new part is one new file:

    @register_loss("poly1", task="softmax")
    def poly1_loss(logits, labels, epsilon=1.0): ...

The modules of a kind are imported when one of its names is first looked up, not before.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from imgcls.core.errors import ConfigError, did_you_mean

Part = TypeVar("Part")


class Signature(NamedTuple):
    """The function whose parameters are the options of a part.

    Attributes:
      function: the part's function or class.
      skip: number of leading parameters that are not options.
      defaults: defaults that replace the function's own.
      hidden: other parameters that are not options.
    """

    function: Callable
    skip: int = 0
    defaults: Mapping[str, Any] = {}
    hidden: Collection[str] = ()


class Registry(Mapping[str, Part], Generic[Part]):
    """The parts of one kind by name, `{name: part}` in alphabetical order.

    Args:
      kind: name of such a part in messages, such as "model".
      package: import path of the package whose modules register the parts, or of a single module.
        Subpackages and `__main__` are left out.
      describe: returns a part's signature; by default all parameters of the part are options.
    """

    def __init__(
        self, kind: str, package: str, describe: Callable[[Part], Signature] | None = None
    ):
        self.kind, self._package, self._describe = kind, package, describe
        self._parts: dict[str, Part] = {}

    def register(self, name: str) -> Callable[[Part], Part]:
        """Decorator that registers a part under `name`.

        Raises:
          ConfigError: another part has that name.
        """

        def register(part: Part) -> Part:
            self.add(name, part)
            return part

        return register

    def add(self, name: str, part: Part) -> None:
        """Registers `part` under `name`.

        Raises:
          ConfigError: another part has that name.
        """
        if name in self._parts:
            # Importing a file a second time registers the same parts again.
            known, new = self._origin(self._parts[name]), self._origin(part)
            if known != new:
                raise ConfigError(
                    f"{self.kind} {name!r} is registered twice: in {known[0]} and in {new[0]}; "
                    "rename one of them"
                )
        self._parts[name] = part

    def find(self, name: str, where: str | None = None) -> Part:
        """Returns the part registered as `name`.

        Args:
          name: name of the part, as written by the user.
          where: config key of the name, for the message, such as "objective.name".

        Raises:
          ConfigError: no part has this name; suggests the nearest one.
        """
        if name not in self:
            what = f"config.{where}={name!r}: unknown" if where else f"unknown {self.kind} {name!r}"
            raise ConfigError(f"{what}{did_you_mean(name, self)}; valid: {', '.join(self)}")
        return self._parts[name]

    def options(self, name: str) -> dict[str, Any]:
        """Options of a part and their defaults; `inspect.Parameter.empty` if there is none."""
        function, skip, defaults, hidden = self._signature(self[name])
        parameters = list(inspect.signature(function).parameters.values())[skip:]
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        named = {p.name: p.default for p in parameters if p.kind not in variadic}
        return {key: defaults.get(key, value) for key, value in named.items() if key not in hidden}

    def summary(self, name: str) -> str:
        """First line of a part's docstring."""
        function = self._signature(self[name]).function
        return next(iter((inspect.getdoc(function) or "").splitlines()), "")

    def __getitem__(self, name: str) -> Part:
        import_modules(self._package)
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        import_modules(self._package)
        return iter(sorted(self._parts))

    def __len__(self) -> int:
        import_modules(self._package)
        return len(self._parts)

    def _signature(self, part: Part) -> Signature:
        if self._describe is not None:
            return self._describe(part)
        if not callable(part):
            raise TypeError(f"{self.kind} {part!r} is not callable; the registry needs `describe`")
        return Signature(part)

    def _origin(self, part: Part) -> tuple[str, str]:
        """Module and qualified name of a part."""
        function = self._signature(part).function
        return function.__module__, function.__qualname__


@functools.cache
def import_modules(package: str) -> None:
    """Imports a module and, if it is a package, the modules directly inside it."""
    spec = importlib.import_module(package).__spec__
    assert spec is not None  # Always set by `import_module`.
    for child in pkgutil.iter_modules(spec.submodule_search_locations or ()):
        if not child.ispkg and child.name != "__main__":
            importlib.import_module(f"{package}.{child.name}")
