"""Tests of imgcls, and what holds for all processes that they start.

Where Python may not write bytecode next to the sources (PYTHONDONTWRITEBYTECODE), each process
would compile all modules again, which takes longer than most tests. There it goes to pytest's
cache.
"""

import os
import pathlib
import sys
from importlib import metadata

# Programs of tests are small: they are compiled fast and run slowly. The emitters of fusions take
# most of the time of compiling; later versions have no others.
COMPILE_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if metadata.version("jaxlib").startswith("0.10."):
    COMPILE_FLAGS += " --xla_cpu_use_fusion_emitters=false"

if sys.dont_write_bytecode:
    cache = pathlib.Path(__file__).resolve().parents[1] / ".pytest_cache" / "bytecode"
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(cache)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
