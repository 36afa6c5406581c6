"""Communication of the training step between devices, and how the step should scale.

    python bench/scale.py [--config=configs/resnet50.py ...] [--devices=8] [--topology=v5e:2x4]
        [--config.KEY=VALUE ...]

Compiles the trainer's step for virtual CPU devices and counts the collectives in the compiled
program. Nothing is run, and no arrays are allocated. With --topology it is compiled for TPUs, which
needs the package libtpu but no TPU. The predictions use the counted bytes and FLOPs.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from imgcls.bench import collectives
from imgcls.core import config as config_lib
from imgcls.core import errors
from imgcls.core.durations import Durations
from imgcls.core.errors import ConfigError
from imgcls.data.create import create_batch_transforms
from imgcls.data.info import DataInfo
from imgcls.distributed import sharding
from imgcls.objectives.create import create_objective
from imgcls.train import optim
from imgcls.train.step import create_state, make_train_step

CONFIGS = ("configs/resnet50.py", "configs/vit_b16.py")
SIZES = {"resnet50": 224, "vit_b16": 192}  # side of the training images in the recipe
CLASSES, EXAMPLES = 1000, 1_281_167  # ImageNet
TENSOR = 4  # devices that share a layer; divides the 12 heads of ViT-B
# Share of the peak. A ResNet-50 is hardly as fast, and then waits less for the links.
SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step that is not compiled yet.

    Attributes:
      lowered: the step, lowered for all devices of the mesh.
      param_bytes: bytes of all parameters.
      split_bytes: bytes of the parameters that are sharded over the axis `model`.
      images: images per step on one device.
    """

    lowered: jax.stages.Lowered
    param_bytes: int
    split_bytes: int
    images: int


def main() -> None:
    args, overrides = parse_args()
    # Read when the backend starts. The partitioner does not belong to the backend's passes, which
    # take ten times as long at their default level.
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={args.devices} --xla_backend_optimization_level=0"
    )
    jax.config.update("jax_platforms", "cpu")
    devices = jax.devices()
    if args.topology:
        devices = topologies.get_topology_desc(args.topology, "tpu").devices
    for path in args.config or CONFIGS:
        config = config_lib.override(config_lib.load(path), overrides)
        report(path, config, devices, args.topology or "virtual CPU")


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    """Returns the options, and overrides of the configs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", action="append", help="config file; can be repeated")
    parser.add_argument("--devices", type=int, default=8, help="number of virtual CPU devices")
    parser.add_argument("--topology", help="TPUs to compile for, such as v5e:2x4")
    return parser.parse_known_args()


def report(path: str, config: ConfigDict, devices: list, kind: str) -> None:
    """Prints the tables of one config."""
    number = len(devices)
    meshes = [dict(data=number), dict(fsdp=number), dict(data=number // TENSOR, model=TENSOR)]
    print(f"\n## {path}: collectives of a step, compiled for {number} devices ({kind})\n")
    print("| mesh | operation | count | MB | least count | least MB | MB / least |")
    print("|---|---|--:|--:|--:|--:|--:|")
    programs = []
    for sizes in meshes:
        step = lower_step(config, make_mesh(devices, **sizes))
        if "model" in sizes and not step.split_bytes:
            print("| model | no layer of this network is split over `model` | | | | | |")
            continue
        programs.append(print_counts(config, sizes, step))
    program, found = programs[0]  # of data parallelism
    images = config.batch_size // number
    flops = program.cost_analysis()["flops"] / images
    gradient = sum(c.bytes for c in found if c.kind == "all-reduce")
    print(
        f"\n{step.param_bytes // 4:,} parameters, {images} images a device, "
        f"{flops / 1e9:.1f} GFLOP an image."
    )
    for machine in (collectives.TPU_V5E, collectives.H100_NODE):
        print_estimate(machine, path, config, images, flops, gradient)


def lower_step(config: ConfigDict, mesh: Mesh, size: int | None = None) -> Step:
    """Lowers the training step of a config for a mesh, from ImageNet's shapes alone.

    Args:
      config: config of a supervised run.
      mesh: mesh of devices, or of descriptions of devices.
      size: side of the images in pixels; None is the recipe's.
    """
    sharding.check_batch(config, mesh)
    size = size or SIZES[config.model.name]
    info = DataInfo(tuple(map(str, range(CLASSES))), False, (size, size, 3), EXAMPLES)
    objective = create_objective(config, info)
    spec = {"image": jax.ShapeDtypeStruct((config.batch_size, size, size, 3), jnp.uint8)}
    params, _ = jax.eval_shape(lambda: objective.init(jax.random.key(0), spec))
    optimizer, schedule = optim.create_optimizer(config, Durations(config, EXAMPLES), params)
    shapes = jax.eval_shape(
        functools.partial(create_state, objective, optimizer, config.seed, spec)
    )
    placement = sharding.partition(shapes, mesh, config.mesh.rules)
    transforms = create_batch_transforms(config)
    step = make_train_step(objective, optimizer, schedule, transforms, config, mesh, placement)
    rows = jax.ShapeDtypeStruct((config.batch_size,), jnp.int32)
    batch = spec | {"label": rows, "index": rows, "mask": rows.update(dtype=jnp.float32)}
    batch = jax.tree.map(lambda s: s.update(sharding=sharding.batch_sharding(mesh)), batch)
    shapes = sharding.with_sharding(shapes, placement)
    leaves = jax.tree.leaves(shapes.params)
    split = sum(4 * x.size for x in leaves if "model" in x.sharding.spec)
    images = config.batch_size // sharding.num_shards(mesh)
    return Step(step.lower(shapes, batch), sum(4 * x.size for x in leaves), split, images)


def make_mesh(devices: list, data: int = 1, fsdp: int = 1, model: int = 1) -> Mesh:
    """Returns a mesh of devices, or of descriptions of devices."""
    axis_types = (AxisType.Auto,) * len(sharding.AXES)
    return Mesh(np.array(devices).reshape(data, fsdp, model), sharding.AXES, axis_types)


def least(config: ConfigDict, sizes: dict, step: Step) -> list[collectives.Collective]:
    """Returns the minimum communication of the step, with float32 activations: see SCALE.md."""
    mesh = dict.fromkeys(sharding.AXES, 1) | sizes
    options = {}
    if "model" in sizes:
        model = create_objective(config, DataInfo(("",) * CLASSES, False, (1, 1, 3))).model
        tokens = (SIZES[config.model.name] // model.patch_size) ** 2 + model.prefix_tokens
        options["blocks"] = model.depth
        options["activation_bytes"] = 4 * step.images * tokens * model.width
    return collectives.minimum(mesh, step.param_bytes, split_bytes=step.split_bytes, **options)


def print_counts(config: ConfigDict, sizes: dict, step: Step) -> tuple:
    """Prints the rows of one mesh; returns the program and its collectives."""
    name = " x ".join(f"{axis}={n}" for axis, n in sizes.items())
    compiled = step.lowered.compile()
    try:
        found = collectives.count(compiled.as_text())
    except ValueError as e:
        print(f"| {name} | not counted: {errors.one_line(e)} | | | | | |")
        return compiled, []
    lowest = {c.kind: c for c in least(config, sizes, step)}
    given = {c.kind: c for c in found}
    for kind in collectives.KINDS:
        ours, theirs = given.get(kind), lowest.get(kind)
        if ours or theirs:
            cells = [f"{c.count} | {c.bytes / 1e6:.3f}" if c else "0 | 0" for c in (ours, theirs)]
            ratio = f"{ours.bytes / theirs.bytes:.4f}" if ours and theirs else ""
            print(f"| {name} | {kind} | {' | '.join(cells)} | {ratio} |", flush=True)
    number = int(np.prod(list(sizes.values())))
    if "model" not in sizes:
        sent = [collectives.wire_bytes(x, number) / 1e6 for x in (found, lowest.values())]
        print(
            f"| {name} | sent by a device | | {sent[0]:.1f} | | {sent[1]:.1f} | "
            f"{sent[0] / sent[1]:.4f} |"
        )
    return compiled, found


def print_estimate(machine, path, config: ConfigDict, batch: int, flops, gradient: int) -> None:
    """Prints how a machine should scale, for a fixed batch per chip and a fixed total batch."""
    total = config.batch_size
    smallest = config.model.get("virtual_batch_size") or 1  # images that a chip must have
    print(
        f"\n### PREDICTION, not a measurement: {path} on a {machine.name}, data parallel, at "
        f"{SHARE:.0%} of the peak\n"
    )
    print(
        f"| chips | all-reduce, ms | efficiency at {batch} images a chip | images/s | "
        f"images a chip of {total} | efficiency | images/s |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for chips in machine.links:
        cells = []
        for images in (batch, total // chips):
            if images < smallest:
                cells.append(f"below virtual_batch_size={smallest} | ")
                continue
            p = collectives.estimate_step(machine, chips, images, flops, gradient, SHARE)
            low, high = p.efficiency
            slow, fast = p.images_per_second
            cells.append(f"{low:.1%} to {high:.1%} | {slow:,.0f} to {fast:,.0f}")
        print(f"| {chips} | {p.sync * 1e3:.3f} | {cells[0]} | {total // chips} | {cells[1]} |")


if __name__ == "__main__":
    try:
        main()
    except ConfigError as e:
        sys.exit(f"error: {errors.one_line(e)}")
