"""Peak arithmetic throughput of accelerators, from a table or measured."""

import time

import jax
import jax.numpy as jnp

# Dense bfloat16 TFLOP/s of one chip by a part of its `device_kind`, from the vendors' data
# sheets (without sparsity); the first entry that matches counts.
PEAKS = {
    **{"TPU v6": 918.0, "TPU v5 lite": 197.0, "TPU v5e": 197.0, "TPU v5": 459.0, "TPU v4": 275.0},
    **{"H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "H200": 989.0},
    **{"A100": 312.0, "L40S": 362.0, "L40": 181.0, "L4": 121.0},
}


def find_peak(kind: str) -> float | None:
    """Returns the dense bfloat16 TFLOP/s of a chip by its `device_kind`; None if unknown."""
    return next((peak for part, peak in PEAKS.items() if part in kind), None)


def measure_peak(dtype, size: int, repeats: int = 5) -> float:
    """Returns the best TFLOP/s measured for a `size` x `size` matrix product on one device."""
    a = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(product(a, a))
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e12
