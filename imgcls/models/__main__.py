"""Lists the models in a table: `python -m imgcls.models` or `python -m imgcls.models 'vit*'`.

Parameters are for 1,000 classes, or 400 of models of clips, with auxiliary classifiers. GFLOPs are
billions of multiply-adds in evaluation for one image, volume or clip of the default size, as in
papers.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from imgcls.core import cli
from imgcls.core.errors import ConfigError
from imgcls.core.flops import count_flops
from imgcls.models.create import create_model
from imgcls.models.registry import list_models, model_entry


@dataclasses.dataclass(frozen=True)
class ModelSize:
    """Size and cost of a model.

    Attributes:
      parameters: number of parameters.
      multiply_adds: number of multiply-adds for one example of the default size.
    """

    parameters: int
    multiply_adds: int


def measure_size(name: str) -> ModelSize:
    """Counts the parameters and multiply-adds of a registered model without running it."""
    entry = model_entry(name)
    # The classes of ImageNet, or of Kinetics.
    model = create_model(name, 1000 if entry.input_frames is None else 400)
    image = jax.ShapeDtypeStruct((1, *entry.input_shape, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    flops = count_flops(jax.make_jaxpr(model.apply)(variables, image).jaxpr)
    return ModelSize(parameters, flops // 2)


def main(argv: list[str] | None = None) -> int:
    """Prints the table of the models that match the pattern."""
    parser = cli.create_parser("models", __doc__)
    parser.add_argument("pattern", nargs="?", default="*", help="such as 'resnet*'")
    pattern = parser.parse_args(argv).pattern
    cli.require_output()
    names = list_models(pattern)
    if not names:
        raise ConfigError(f"no model matches {pattern!r}: `python -m imgcls.models` lists all")
    print(f"{'name':<20}{'parameters':>13}{'GFLOPs':>9}{'input':>9}{'top-1':>7}  published in")
    for name in names:
        entry, size = model_entry(name), measure_size(name)
        gflops = size.multiply_adds / 1e9
        top1 = f"{entry.top1:.1f}" if entry.top1 is not None else "-"
        side = str(entry.input_size)
        if entry.input_frames is not None:
            side = f"{entry.input_frames}x{side}"
        print(
            f"{name:<20}{size.parameters:>13,}{gflops:>9.2f}{side:>9}{top1:>7}  "
            f"{entry.source or '-'}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    cli.run(main)
