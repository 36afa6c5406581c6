"""Tests of imgcls, and what holds for all processes that they start.

Where Python may not write bytecode next to the sources (PYTHONDONTWRITEBYTECODE), each process
would compile all modules again, which takes longer than most tests. There it goes to pytest's
cache.
"""

import os
import pathlib
import sys

if sys.dont_write_bytecode:
    cache = pathlib.Path(__file__).resolve().parents[1] / ".pytest_cache" / "bytecode"
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(cache)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
