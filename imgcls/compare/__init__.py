"""Comparison of runs: `python -m imgcls.compare W1 W2 ...`.

`workdirs` finds and reads runs, `groups` joins those that differ in their seed alone, `paired`
compares predictions on the same test examples, and `page` shows all of it.
"""

from imgcls.core.callable_package import make_callable

make_callable(__name__, "imgcls.compare.__main__:compare")
