"""Examples of a source as the model sees them, as pictures for a page."""

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from imgcls.data.create import create_eval_loader
from imgcls.data.sources.source import Source
from imgcls.data.sources.subset import Subset
from imgcls.data.transforms.transform import takes_videos
from imgcls.predict.explain import draw


def read_previews(
    config: ConfigDict, source: Source, indices: np.ndarray, mesh: Mesh
) -> list[np.ndarray | None]:
    """Examples after `data.eval_transform`, uint8 `[H, W, C]` each; None if unreadable.

    Volumes and clips are drawn in one picture; of several clips of a video the middle one.

    Args:
      config: config of the run; `data` is read.
      source: source of the examples.
      indices: positions in the source, int `[N]`.
      mesh: device mesh.
    """
    config = config.copy_and_resolve_references()
    config.data.on_error, config.data.workers = "skip", 0
    pictures: list[np.ndarray | None] = [None] * len(indices)
    if not pictures:
        return pictures
    is_clip = takes_videos(config.data.eval_transform, "config.data.eval_transform")
    batch_size = -(-len(indices) // mesh.size) * mesh.size
    loader = create_eval_loader(config, Subset(source, np.asarray(indices)), mesh, batch_size)
    try:
        for batch in loader:
            index, mask, images = (np.asarray(batch[key]) for key in ("index", "mask", "image"))
            for i, readable, image in zip(index, mask, images, strict=True):
                if i >= 0 and readable > 0:
                    pictures[i] = _draw(image, is_clip)
    finally:
        loader.close()
    return pictures


def _draw(image: np.ndarray, is_clip: bool) -> np.ndarray:
    if image.ndim == 5:
        image = image[len(image) // 2]
    if image.ndim == 4:
        return draw(image, np.zeros(image.shape[:3], np.float32), is_clip)
    return image
