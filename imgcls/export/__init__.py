"""Export of trained models: `python -m imgcls.export`."""

from imgcls.core.callable_package import make_callable

make_callable(__name__, "imgcls.export.__main__:export")
