"""Searches of settings: `python -m imgcls.sweep --config=... --study=DIR 'KEY=RANGE' ...`.

`space` reads the ranges, `study` holds the trials in an Optuna study and hands them out, `worker`
trains one as a process of its own, and `page` shows all of them.
"""

from imgcls.core.callable_package import make_callable

make_callable(__name__, "imgcls.sweep.__main__:sweep")
