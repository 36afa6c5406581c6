"""Export as ONNX by jax2onnx, and its execution by onnxruntime (requirements-onnx.txt)."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax.extend.core import ClosedJaxpr, Literal

from imgcls.core.errors import ConfigError, one_line
from imgcls.export.logits import LogitsFunction


def to_onnx(logits: LogitsFunction, shape: tuple[int, ...], dtype: str = "uint8") -> bytes:
    """Converts a function to a serialized ONNX model.

    Args:
      logits: function from images `[b, *shape]` to logits `[b, K]`.
      shape: shape of an example, such as (H, W, C); the batch size b is dynamic.
      dtype: dtype of the images.

    Raises:
      ConfigError: the conversion fails.
    """
    # jax2onnx logs an error for every plugin of an unrelated library that it can't load.
    logging.disable(logging.ERROR)
    try:
        from jax2onnx import to_onnx as convert  # pyright: ignore[reportMissingImports]

        spec = jax.ShapeDtypeStruct((*jax_export.symbolic_shape("b"), *shape), dtype)
        program = _slice_windows(jax.make_jaxpr(logits)(spec))
        names = {"input_names": ["images"], "output_names": ["logits"]}
        return convert(program, [spec], model_name="imgcls", **names).SerializeToString()
    except Exception as e:
        raise ConfigError(
            f"--format=onnx: jax2onnx can't convert this model: {one_line(e)[:200]}; use "
            "--format=stablehlo"
        ) from e
    finally:
        logging.disable(logging.NOTSET)


def run_onnx(data: bytes) -> LogitsFunction:
    """Returns a function that runs a serialized ONNX model on the CPU."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": np.asarray(images)})[0]


def _slice_windows(closed) -> LogitsFunction:
    """Replaces the pooling operations of a program by maxima and sums of strided slices.

    jax2onnx converts them to pooling over four axes; onnxruntime supports at most three.
    """
    combine = {"reduce_window_max": (jnp.maximum, -np.inf), "reduce_window_sum": (jnp.add, 0)}

    def pool(operator, padding_value, x, window_dimensions, window_strides, padding, **_):
        x = jnp.pad(x, padding, constant_values=padding_value) if np.any(padding) else x
        total = None
        for offset in np.ndindex(*window_dimensions):
            part = x
            for axis, (start, size) in enumerate(zip(offset, window_dimensions, strict=True)):
                if size > 1:
                    stop = part.shape[axis] - size + start + 1
                    stride = window_strides[axis]
                    part = jax.lax.slice_in_dim(part, start, stop, stride, axis)
            total = part if total is None else operator(total, part)
        return total

    def run(jaxpr, consts, *args):
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
        for equation in jaxpr.eqns:
            inputs = [v.val if isinstance(v, Literal) else values[v] for v in equation.invars]
            name, params = equation.primitive.name, equation.params
            inner = params.get("jaxpr", params.get("call_jaxpr"))
            if name in combine:
                results = [pool(*combine[name], *inputs, **params)]
            elif inner is not None:
                closed = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
                results = run(closed.jaxpr, closed.consts, *inputs)
            else:
                results = equation.primitive.bind(*inputs, **params)
                results = results if equation.primitive.multiple_results else [results]
            values |= zip(equation.outvars, results, strict=True)
        return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]

    return lambda x: run(closed.jaxpr, closed.consts, x)[0]
