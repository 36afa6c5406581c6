"""Export as a StableHLO program."""

import jax
from jax import export as jax_export

from imgcls.export.logits import LogitsFunction

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(logits: LogitsFunction, shape: tuple[int, ...], dtype: str = "uint8") -> bytes:
    """Converts a function to a serialized StableHLO program for `PLATFORMS`.

    Args:
      logits: function from images `[b, *shape]` to logits `[b, K]`.
      shape: shape of an example, such as (H, W, C); the batch size b is symbolic.
      dtype: dtype of the images.
    """
    spec = jax.ShapeDtypeStruct((*jax_export.symbolic_shape("b"), *shape), dtype)
    return bytes(jax_export.export(jax.jit(logits), platforms=PLATFORMS)(spec).serialize())


def run_stablehlo(data: bytes) -> LogitsFunction:
    """Returns a function that runs a serialized StableHLO program."""
    return jax_export.deserialize(bytearray(data)).call
