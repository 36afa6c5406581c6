"""A table of the models: `python -m imgcls.models`, or of some: `python -m imgcls.models 'vit*'`.

Parameters are those of 1,000 classes, auxiliary classifiers included. GFLOPs are billions of
multiply-adds of one picture of the default size in evaluation, as papers count them.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

from imgcls.core import cli
from imgcls.core.errors import ConfigError
from imgcls.models.create import create_model
from imgcls.models.registry import list_models, model_entry


@dataclasses.dataclass(frozen=True)
class Summary:
    """A model in numbers.

    Attributes:
      parameters: how many.
      multiply_adds: of one picture of the default size.
    """

    parameters: int
    multiply_adds: int


def summarise(name: str) -> Summary:
    """Counts a model's parameters and multiply-adds without computing anything."""
    model, size = create_model(name), model_entry(name).input_size
    picture = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), picture)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    return Summary(parameters, multiply_adds(jax.make_jaxpr(model.apply)(variables, picture).jaxpr))


def multiply_adds(jaxpr) -> int:
    """Multiply-adds of the convolutions and matrix products of a jaxpr, and of those inside it."""
    total = 0
    for equation in jaxpr.eqns:
        out = equation.outvars[0].aval.shape
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            sides = [equation.invars[0].aval.shape[axis] for axis in contracted]
            total += math.prod(out) * math.prod(sides)
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            layout = equation.params["dimension_numbers"].rhs_spec
            # Output channels are an axis of the output already.
            total += math.prod(out) * math.prod(kernel) // kernel[layout[0]]
        total += sum(map(multiply_adds, jaxprs_in_params(equation.params)))
    return total


def main(argv: list[str] | None = None) -> int:
    """Flags -> table."""
    parser = cli.create_parser("models", __doc__)
    parser.add_argument("pattern", nargs="?", default="*", help="such as 'resnet*'")
    pattern = parser.parse_args(argv).pattern
    names = list_models(pattern)
    if not names:
        raise ConfigError(f"no model matches {pattern!r}: `python -m imgcls.models` lists all")
    print(f"{'name':<20}{'parameters':>13}{'GFLOPs':>9}{'input':>7}{'top-1':>7}  published in")
    for name in names:
        entry, summary = model_entry(name), summarise(name)
        gflops = summary.multiply_adds / 1e9
        top1 = f"{entry.top1:.1f}" if entry.top1 is not None else "-"
        print(
            f"{name:<20}{summary.parameters:>13,}{gflops:>9.2f}{entry.input_size:>7}{top1:>7}  "
            f"{entry.source or '-'}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    cli.run(main)
