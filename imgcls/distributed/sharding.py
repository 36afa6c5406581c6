"""The device mesh, where each parameter lives on it, and how a host's batch becomes global.

Axes: `data` replicates parameters, `fsdp` shards them (and both shard the batch), `model` splits
single layers (tensor parallelism). The number of devices never changes what is computed.
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

# (regex on the path, spec): the first that matches decides. A spec names an axis (or None) for
# each dimension; the word 'largest' puts fsdp on the largest dimension that it divides.
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
    """The mesh of `config.mesh` over all devices of all processes.

    Raises:
      ConfigError: the axes do not multiply to the number of devices.
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
            "the axes must multiply to that (one of them may be -1)"
        )
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Examples over `data` and `fsdp`; other dimensions whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def num_shards(mesh: Mesh) -> int:
    """How many parts the batch is cut into."""
    return int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))


def check_batch(config: ConfigDict, mesh: Mesh) -> None:
    """Checks that the batch divides over accumulation, devices and BatchNorm's groups.

    Raises:
      ConfigError: it does not; names the numbers and the nearest batch size that does.
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
    """Rows of the global batch that this process's devices hold, ascending int64."""
    index_map = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    slices = [index[0] for index in index_map.values() if index is not None]
    rows = {r for s in slices for r in range(*s.indices(batch_size))}
    return np.array(sorted(rows))


def counted_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Which of `local_rows` no process of a lower number holds too, bool `[rows]`.

    Over all processes every row of the batch is true once.
    """
    places = batch_sharding(mesh).devices_indices_map((batch_size,))
    owner = np.full(batch_size, jax.process_count())
    for device, (rows,) in places.items():
        owner[rows] = np.minimum(owner[rows], device.process_index)
    return owner[local_rows(mesh, batch_size)] == jax.process_index()


def to_global(mesh: Mesh, batch: dict[str, np.ndarray], batch_size: int) -> dict[str, jax.Array]:
    """This process's rows (in the order of `local_rows`) as part of the global sharded batch."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value, (batch_size, *value.shape[1:]))
        for key, value in batch.items()
    }


def partition(tree, mesh: Mesh, rules: Sequence = ()):
    """A NamedSharding for every array of a tree of arrays or shapes.

    Args:
      tree: parameters, or a whole train state: an optimiser's moments carry their parameter's
        path, so that the same rules place them.
      mesh: from `create_mesh`.
      rules: `((regex, spec), ...)` tried before `DEFAULT_RULES`.

    Raises:
      ConfigError: a rule names an unknown axis or one that does not divide the dimension.
    """

    def place(path, leaf) -> NamedSharding:
        name = path_name(path)
        for pattern, spec in (*rules, *DEFAULT_RULES):
            # Moments that are reduced to a scalar match by name and not by shape.
            if re.search(pattern, name) and (spec == "largest" or len(spec) == leaf.ndim):
                return NamedSharding(mesh, _spec(spec, leaf.shape, mesh, name))
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, tree)


def with_sharding(shapes, placement):
    """ShapeDtypeStructs that also say where each array is to live."""
    return jax.tree.map(
        lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, placement
    )


def path_name(path) -> str:
    """A tree path as text: `params/layer1_0/conv1/kernel`."""
    return "/".join(str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p)))) for p in path)


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
            raise ConfigError(f"config.mesh.rules: {axis!r} is no axis; use {', '.join(AXES)}")
        if axis is not None and n % mesh.shape[axis]:
            raise ConfigError(
                f"config.mesh: {axis}={mesh.shape[axis]} does not divide dimension {n} of {name}"
            )
    return PartitionSpec(*spec)
