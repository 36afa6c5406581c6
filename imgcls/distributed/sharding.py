"""The device mesh, the placement of parameters on it, and global batches.

Axes: `data` replicates parameters, `fsdp` shards them, and both shard the batch; `model` splits
single layers (tensor parallelism). The number of devices does not change what is computed.
"""

import re
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from imgcls.core.errors import ConfigError

AXES = ("data", "fsdp", "model")
BATCH_AXES = ("data", "fsdp")

# (regex on the path, spec): the first match applies. A spec has an axis or None for each
# dimension; 'largest' places fsdp on the largest dimension that it divides.
DEFAULT_RULES = (
    (r"attn/qkv/kernel", ("fsdp", None, "model", None)),
    (r"attn/qkv/bias", (None, "model", None)),
    (r"attn/proj/kernel", ("model", None, "fsdp")),
    (r"mlp/fc1/kernel", ("fsdp", "model")),
    (r"mlp/fc1/bias", ("model",)),
    (r"mlp/fc2/kernel", ("model", "fsdp")),
    (r".*", "largest"),
)


def create_mesh(config: ConfigDict) -> Mesh:
    """Creates the mesh of `config.mesh` over all devices of all processes.

    Raises:
      ConfigError: the product of the axes is not the number of devices.
    """
    devices = jax.device_count()
    sizes = [config.mesh[axis] for axis in AXES]
    fixed = int(np.prod([s for s in sizes if s != -1]))
    valid = all(s == -1 or s > 0 for s in sizes) and sizes.count(-1) <= 1
    if valid and -1 in sizes and devices % fixed == 0:
        sizes[sizes.index(-1)] = devices // fixed
    if not valid or int(np.prod(sizes)) != devices:
        text = ", ".join(f"{axis}={config.mesh[axis]}" for axis in AXES)
        raise ConfigError(
            f"config.mesh: {text} does not fit {devices} devices; "
            "the product of the axes must be that number (one of them may be -1)"
        )
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of a batch: examples over `data` and `fsdp`, other dimensions unsharded."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that is replicated on all devices."""
    return NamedSharding(mesh, PartitionSpec())


def num_shards(mesh: Mesh) -> int:
    """Number of shards of a batch."""
    return int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))


def check_batch(config: ConfigDict, mesh: Mesh) -> None:
    """Checks that the batch size divides by accumulation, devices and BatchNorm groups.

    Raises:
      ConfigError: it does not; names the factors and the nearest batch size that does.
    """
    if config.accumulate < 1:
        raise ConfigError(f"config.accumulate={config.accumulate}: must be 1 or more")
    group = config.model.get("virtual_batch_size") or 1
    unit = config.accumulate * num_shards(mesh) * group
    if config.batch_size < 1 or config.batch_size % unit:
        nearest = max(round(config.batch_size / unit), 1) * unit
        parts = f"{config.accumulate} (accumulate) x {num_shards(mesh)} (devices)"
        if group > 1:
            parts += f" x {group} (model.virtual_batch_size)"
        raise ConfigError(
            f"config.batch_size={config.batch_size}: does not divide by {parts} = {unit}; "
            f"for example {nearest}"
        )


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Rows of the global batch on this process's devices, ascending int64 `[rows]`."""
    index_map = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    slices = [index[0] for index in index_map.values() if index is not None]
    rows = {r for s in slices for r in range(*s.indices(batch_size))}
    return np.array(sorted(rows))


def counted_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Which of `local_rows` this process counts, bool `[rows]`.

    If several processes hold a row, the first of them counts it, so that each row counts once.
    """
    places = batch_sharding(mesh).devices_indices_map((batch_size,))
    owner = np.full(batch_size, jax.process_count())
    for device, (rows,) in places.items():
        owner[rows] = np.minimum(owner[rows], device.process_index)
    return owner[local_rows(mesh, batch_size)] == jax.process_index()


def to_global(mesh: Mesh, batch: dict[str, np.ndarray], batch_size: int) -> dict[str, jax.Array]:
    """Creates the global sharded batch from this process's rows, in the order of `local_rows`."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value, (batch_size, *value.shape[1:]))
        for key, value in batch.items()
    }


def partition(tree, mesh: Mesh, rules: Sequence = ()):
    """Returns a NamedSharding for every array of a tree of arrays or shapes.

    Args:
      tree: parameters, or a full train state: paths of an optimizer's moments end with those of
        their parameters, so that the same rules apply.
      mesh: device mesh.
      rules: `((regex, spec), ...)` to try before `DEFAULT_RULES`.

    Raises:
      ConfigError: a rule with an unknown axis, or with one that does not divide the dimension.
    """

    def place(path, leaf) -> NamedSharding:
        name = path_name(path)
        for pattern, spec in (*rules, *DEFAULT_RULES):
            # Moments that are reduced to scalars match by name but not by shape.
            if re.search(pattern, name) and (spec == "largest" or len(spec) == leaf.ndim):
                return NamedSharding(mesh, _spec(spec, leaf.shape, mesh, name))
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, tree)


def with_sharding(shapes, placement):
    """Returns ShapeDtypeStructs of `shapes` with the shardings of `placement`."""
    return jax.tree.map(
        lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, placement
    )


def path_name(path) -> str:
    """A tree path as text: `params/layer1_0/conv1/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _spec(spec, shape: tuple[int, ...], mesh: Mesh, name: str) -> PartitionSpec:
    if spec == "largest":
        size = mesh.shape["fsdp"]
        fits = [(n, -i) for i, n in enumerate(shape) if n % size == 0 and n >= size]
        if size == 1 or not fits:
            return PartitionSpec()
        dimension = -max(fits)[1]
        return PartitionSpec(*(None,) * dimension, "fsdp")
    for axis, n in zip(spec, shape, strict=True):
        if axis is not None and axis not in AXES:
            raise ConfigError(f"config.mesh.rules: {axis!r} is not an axis; use {', '.join(AXES)}")
        if axis is not None and n % mesh.shape[axis]:
            raise ConfigError(
                f"config.mesh: {axis}={mesh.shape[axis]} does not divide dimension {n} of {name}"
            )
    return PartitionSpec(*spec)
