"""Packages that can be called: `imgcls.train(...)` runs what `python -m imgcls.main` runs.

`imgcls.train` is a package, and users expect a function of that name. A package whose `__init__.py`
calls `make_callable` is both.
"""

import importlib
import sys
import types


class CallablePackage(types.ModuleType):
    """A package that passes calls on to one of its functions, imported at the first call."""

    def __call__(self, *args, **kwargs):
        module, _, function = self.__dict__["__function__"].partition(":")
        return getattr(importlib.import_module(module), function)(*args, **kwargs)


def make_callable(package: str, function: str) -> None:
    """Makes a package callable; call it in the package's `__init__.py`.

    Args:
      package: name of the package, its `__name__`.
      function: what a call calls, as `'module:function'`.
    """
    module = sys.modules[package]
    module.__dict__["__function__"] = function
    module.__class__ = CallablePackage
