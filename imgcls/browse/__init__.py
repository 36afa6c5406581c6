"""What training will see: `python -m imgcls.browse --config=...` writes a page of examples."""

from imgcls.core.callable_package import make_callable

make_callable(__name__, "imgcls.browse.__main__:browse")
