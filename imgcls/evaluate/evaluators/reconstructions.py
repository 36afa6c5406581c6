"""Image of some examples as reconstructed by a generative objective."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image, ImageDraw

from imgcls.core.errors import ConfigError
from imgcls.data.create import open_split
from imgcls.data.sources.subset import Subset
from imgcls.evaluate.evaluator import register_evaluator
from imgcls.evaluate.gather import gather, make_eval_fn
from imgcls.objectives.objective import Reconstructs
from imgcls.runs.best import Direction

ROWS = ("input", "masked", "output")
# In pixels: minimum side of an image (smaller ones are enlarged), gap between cells, left margin.
SIDE, GAP, MARGIN = 64, 2, 48


@register_evaluator("reconstructions")
class Reconstructions:
    """Image with a column for each example: the input, the masked input and the output.

    The examples are spread evenly over the split, and the masks are the same every time. Of volumes
    the slice in the middle of the first axis is shown.

    Args:
      config, objective, mesh, data_info: see `Evaluator`.
      split: name of the split that the examples are from.
      examples: number of examples; all if the split has fewer.

    Raises:
      ConfigError: the objective does not reconstruct images.
    """

    directions: Mapping[str, Direction] = {}

    def __init__(
        self,
        config: ConfigDict,
        objective,
        mesh: Mesh,
        data_info,
        split: str = "test",
        examples: int = 8,
    ):
        if not isinstance(objective, Reconstructs):
            raise ConfigError(
                f"config.objective.name={config.objective.name!r} does not reconstruct images; use "
                "an evaluator of features, such as type 'knn'"
            )
        source = open_split(config, split)
        count = min(examples, len(source))
        self._source = Subset(source, np.linspace(0, len(source) - 1, count).round().astype(int))
        self._config, self._mesh = config, mesh

        def outputs(params, model_state, batch):
            images = objective.reconstruct(params, model_state, batch, jax.random.key(0))
            images = {row: middle_slice(images[row]) for row in ROWS}
            rows = {
                row: denormalize(image, config.data.mean, config.data.std)
                for row, image in images.items()
            }
            return rows | {"mask": batch["mask"]}

        self._outputs = make_eval_fn(outputs, config, mesh)
        self.protocol = (
            f"reconstructions: {', '.join(ROWS)} of {count} examples of {split} ({len(source):,})"
        )

    def run(self, variables: dict[str, tuple]) -> dict[str, np.ndarray]:
        """Returns the image `grid` for each set of variables, prefixed by its key."""
        collected, _ = gather(
            self._outputs, variables, self._config, self._source, self._mesh, len(self._source)
        )
        return {
            f"{prefix}grid": draw_grid({row: images[row] for row in ROWS})
            for prefix, images in collected.items()
            if len(images["mask"])
        }


def middle_slice(images: jax.Array) -> jax.Array:
    """`[B, H, W, C]` as they are; of volumes `[B, D, H, W, C]` the slice in the middle of D."""
    return images[:, images.shape[1] // 2] if images.ndim == 5 else images


def denormalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Converts model inputs to uint8 pixels: the inverse of `batch_transforms.normalize`."""
    pixels = (images * jnp.array(std) + jnp.array(mean)) * 255
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)


def draw_grid(rows: dict[str, np.ndarray]) -> np.ndarray:
    """Draws named rows of images `[N, H, W, C]`: uint8 `[height, width, 3]`.

    Gray images become RGB, of other numbers of channels the first is shown, and small images are
    enlarged by an integer factor.
    """
    images = np.stack(list(rows.values()))
    images = images if images.shape[-1] == 3 else images[..., :1]
    images = np.broadcast_to(images, (*images.shape[:-1], 3))
    factor = -(-SIDE // max(images.shape[2:4]))
    images = repeat(images, "r n h w c -> r n (h fh) (w fw) c", fh=factor, fw=factor)
    cells = np.pad(images, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    sheet = rearrange(cells, "r n h w c -> (r h) (n w) c")
    canvas = Image.fromarray(np.pad(sheet, ((0, 0), (MARGIN, 0), (0, 0)), constant_values=255))
    for number, name in enumerate(rows):
        ImageDraw.Draw(canvas).text((4, (number + 0.5) * cells.shape[2] - 6), name, fill=(0, 0, 0))
    return np.asarray(canvas)
