"""Export as a StableHLO program."""

import jax
import jax.numpy as jnp
from jax import export as jax_export

from imgcls.export.logits import Logits

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(logits: Logits, shape: tuple[int, int, int]) -> bytes:
    """The serialized program for `PLATFORMS`; b is symbolic."""
    spec = jax.ShapeDtypeStruct((*jax_export.symbolic_shape("b"), *shape), jnp.uint8)
    return bytes(jax_export.export(jax.jit(logits), platforms=PLATFORMS)(spec).serialize())


def run_stablehlo(data: bytes) -> Logits:
    """The program of a file, as a function."""
    return jax_export.deserialize(bytearray(data)).call
