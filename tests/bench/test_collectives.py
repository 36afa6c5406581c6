"""Collectives: counts of hand-written HLO and of compiled programs, the minimum, the estimate."""

import functools
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from bench import scale
from imgcls.bench.collectives import (
    H100_NODE,
    TPU_V5E,
    Collective,
    Machine,
    count,
    estimate_step,
    minimum,
    wire_bytes,
)
from imgcls.core import config as config_lib
from imgcls.core.errors import ConfigError
from tests.conftest import REPO, make_mesh


def module(*lines: str, before: str = "") -> str:
    """Returns the text of a module with one entry computation."""
    body = "\n".join(f"  {line}" for line in lines)
    entry = f"ENTRY %main (p: f32[8]) -> f32[8] {{\n{body}\n}}\n"
    return f"HloModule m\n\n{textwrap.dedent(before)}\n{entry}"


@pytest.mark.parametrize(
    "lines, expected",
    [
        # A tuple with layouts, a comment and a scalar: 24 + 2 * 2 * 3 + 4 bytes.
        (
            [
                "%a = (f32[2,3]{1,0:T(8,128)}, bf16[2,3]{0,1}, /*index=2*/f32[]) "
                "all-reduce(%x, %y, %z), replica_groups={{0,1}}, to_apply=%add"
            ],
            [("all-reduce", 1, 40)],
        ),
        # A pair of start and done is one; the type of the start also contains the operands.
        (
            [
                "%p = f32[4]{0} parameter(0)",
                "%s = (f32[4]{0}, f32[32]{0}) all-gather-start(%p), dimensions={0}",
                "ROOT %d = f32[32]{0} all-gather-done(%s)",
            ],
            [("all-gather", 1, 128)],
        ),
        (
            [
                "%p = s32[4]{0} parameter(0)",
                "%s = (s32[4]{0}, s32[4]{0}, u32[], u32[]) collective-permute-start(%p)",
                "ROOT %d = s32[4]{0} collective-permute-done(%s)",
            ],
            [("collective-permute", 1, 16)],
        ),
        # The full array is the operand of a reduce-scatter.
        (
            [
                "p = f32[32]{0} parameter(0)",
                "ROOT r = f32[4]{0} reduce-scatter(p), dimensions={0}, to_apply=add",
            ],
            [("reduce-scatter", 1, 128)],
        ),
        # Several operations of a kind, in the order of KINDS; names are not operations.
        (
            [
                "%p = u8[10]{0} parameter(0)",
                "%t = (u8[5]{0}, u8[5]{0}) all-to-all(%p, %p), dimensions={0}",
                "%all-reduce.1 = pred[3]{0} all-reduce(%p), to_apply=%or",
                "%n = f32[9]{0} fusion(%all-reduce.1), calls=%missing",
                "ROOT %all-reduce.2 = pred[4]{0} all-reduce(%p), to_apply=%or",
            ],
            [("all-reduce", 2, 10 + 10), ("all-to-all", 1, 20)],
        ),
        (["ROOT %p = f32[4]{0} parameter(0)"], []),
    ],
)
def test_counts_by_hand(lines, expected):
    assert count(module(*lines)) == expected


LOOP = """
    %body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
      %x = f32[8]{0} get-tuple-element(%p), index=1
      %r = f32[8]{0} all-reduce(%x), to_apply=%add
      ROOT %t = (s32[], f32[8]{0}) tuple(%i, %r)
    }

    %cond (p: (s32[], f32[8])) -> pred[] {
      ROOT %lt = pred[] compare(%i, %n), direction=LT
    }
    """


def test_loop_counts_by_its_trips():
    loop = "ROOT %w = (s32[], f32[8]{0}) while(%t), condition=%cond, body=%body"
    trips = ', backend_config={"known_trip_count":{"n":"5"}}'
    assert count(module(loop + trips, before=LOOP)) == [("all-reduce", 5, 160)]
    with pytest.raises(ValueError, match="body: collectives in a loop of unknown length"):
        count(module(loop, before=LOOP))
    quiet = LOOP.replace("all-reduce", "negate")
    assert count(module(loop, before=quiet)) == []


def test_both_branches_of_a_conditional_count():
    call = "ROOT %c = f32[8]{0} conditional(%i, %x, %y), branch_computations={%body, %body}"
    assert count(module(call, before=LOOP)) == [("all-reduce", 2, 64)]


def test_parts_and_reduce_scatter_of_the_tpu_compiler():
    """A gather in two fusions is one; an all-reduce fused with a slice is a reduce-scatter."""
    before = """
    %part1 (p: bf16[2,8]) -> bf16[16,8] {
      %g = bf16[16,8]{1,0} all-gather(%p), channel_id=3, frontend_attributes={chain_id="0"}
    }

    %part2 (p: bf16[2,8]) -> bf16[16,8] {
      %g = bf16[16,8]{1,0} all-gather(%p), channel_id=3, frontend_attributes={chain_id="0"}
    }

    %all-reduce-scatter.1 (i: bf16[16]) -> bf16[2] {
      %r = bf16[16]{0} all-reduce(%i), channel_id=3, to_apply=%add
      ROOT %s = bf16[2]{0} dynamic-slice(%r, %o), dynamic_slice_sizes={2}
    }
    """
    calls = [
        f"%f{i} = bf16[2]{{0}} fusion(%p), kind=kCustom, calls=%{name}"
        for i, name in enumerate(("part1", "part2", "all-reduce-scatter.1"))
    ]
    found = count(module(*calls, before=before))
    assert found == [("all-gather", 1, 256), ("reduce-scatter", 1, 32)]


def test_text_that_is_not_a_module():
    with pytest.raises(ValueError, match="not the text of an HLO module"):
        count("all-reduce(%x)")


def compiled(fn, shape, specs, **axes) -> str:
    mesh = make_mesh(**axes)
    mapped = jax.shard_map(fn, mesh=mesh, in_specs=specs[0], out_specs=specs[1], check_vma=False)
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, specs[0]))
    return jax.jit(mapped).lower(x).compile().as_text()


def looped(x):
    """Three all-reduces in sequence."""
    return jax.lax.scan(lambda c, _: (jax.lax.psum(c, "data") * 0.5, None), x, length=3)[0]


@pytest.mark.parametrize(
    "fn, specs, expected",
    [
        # Every device has 2 of 16 rows of 4: 32 bytes, and 256 in total.
        (lambda x: jax.lax.psum(x, "data"), (P("data"), P()), ("all-reduce", 1, 32)),
        (looped, (P("data"), P()), ("all-reduce", 3, 96)),
        (
            lambda x: jax.lax.all_gather(x, "data", tiled=True),
            (P("data"), P()),
            ("all-gather", 1, 256),
        ),
        (
            lambda x: jax.lax.psum_scatter(x, "data", tiled=True),
            (P(), P("data")),
            ("reduce-scatter", 1, 256),
        ),
        (
            lambda x: jax.lax.ppermute(x, "data", [(i, (i + 1) % 8) for i in range(8)]),
            (P("data"), P("data")),
            ("collective-permute", 1, 32),
        ),
    ],
)
def test_counts_of_compiled_programs(fn, specs, expected):
    assert count(compiled(fn, (16, 4), specs, data=8)) == [expected]


def test_minimum_by_hand():
    def of(**axes):
        return dict.fromkeys(("data", "fsdp", "model"), 1) | axes

    assert minimum(of(), 1000) == []
    assert minimum(of(data=8), 1000) == [("all-reduce", 1, 1000)]
    sharded = [("all-gather", 1, 1000), ("reduce-scatter", 1, 1000)]
    assert minimum(of(fsdp=8), 1000) == sharded
    assert minimum(of(fsdp=8), 1000, gathers=2)[0] == ("all-gather", 2, 2000)
    # Between groups, each device has only its part of the gradient.
    assert minimum(of(data=2, fsdp=4), 1000) == [("all-reduce", 1, 250), *sharded]
    # 400 bytes and a quarter of 600; 12 blocks of 4 sums.
    tensor = dict(split_bytes=600, blocks=12, activation_bytes=10)
    assert minimum(of(model=4), 1000, **tensor) == [("all-reduce", 48, 480)]
    assert minimum(of(data=2, model=4), 1000, **tensor) == [("all-reduce", 49, 550 + 480)]


def test_all_reduce_sends_twice_as_much():
    whole, parts = Collective("all-reduce", 1, 800), minimum(dict(data=1, fsdp=8, model=1), 800)
    assert wire_bytes([whole], 8) == wire_bytes(parts, 8) == 1400
    assert wire_bytes([whole], 1) == 0


def test_estimate_by_hand():
    """30 ms of arithmetic; 15 MB sent over two links of 0.5 GB/s: 15 ms, less than the 20 ms of
    the backward pass. Over one link they are 30 ms, 10 more than it."""
    chip = Machine("test", 2e12, 0.5e9, {4: 2, 2: 1})
    p = estimate_step(chip, 4, 10, 3e9, 10_000_000, 0.5)
    np.testing.assert_allclose((p.compute, p.sync), (0.030, 0.015))
    np.testing.assert_allclose(p.efficiency, (2 / 3, 1))
    np.testing.assert_allclose(p.images_per_second, (40 / 0.045, 40 / 0.030))
    p = estimate_step(chip, 2, 10, 3e9, 15_000_000, 0.5)
    np.testing.assert_allclose(p.efficiency, (0.5, 0.75))


def test_published_specifications():
    """400 GB/s and 900 GB/s in both directions together."""
    assert 2 * TPU_V5E.link * 4 == 400e9 and 2 * H100_NODE.link * 18 == 900e9
    assert TPU_V5E.links[256] == 4 and set(H100_NODE.links.values()) == {18}


def small_config(**model):
    c = config_lib.load(str(REPO / "configs" / "resnet50.py"))
    c.batch_size = 64
    c.model.update(dict(name="resnet18", stem="cifar", stage_sizes=(1, 1), dtype="float32"))
    c.model.update(dict(virtual_batch_size=8) | model)
    return c


def test_data_parallel_step_communicates_only_the_gradient():
    """And at most 2 % more, for statistics and metrics."""
    step = scale.lower_step(small_config(width=64), make_mesh(data=8), size=16)
    (found,) = count(step.lowered.compile().as_text())
    assert found.kind == "all-reduce" and found.count <= 3
    assert step.param_bytes == 4 * 434_984
    assert step.param_bytes <= found.bytes <= 1.02 * step.param_bytes


@functools.cache
def counted(name: str, **axes) -> tuple[scale.Step, dict[str, Collective]]:
    c = config_lib.load(str(REPO / "configs" / f"{name}.py"))
    c.batch_size = 256 if name == "resnet50" else 16
    step = scale.lower_step(c, make_mesh(**axes))
    return step, {x.kind: x for x in count(step.lowered.compile().as_text())}


@pytest.mark.slow
@pytest.mark.parametrize("name, params", [("resnet50", 25_557_032), ("vit_b16", 86_546_152)])
def test_recipes_reduce_the_gradient_once(name, params):
    """ResNet-50's BatchNorm statistics are 0.2% of it; mixup sends an image to a neighbor."""
    step, found = counted(name, data=8)
    assert step.param_bytes == 4 * params
    assert found["all-reduce"].count <= 3
    assert 4 * params <= found["all-reduce"].bytes <= 1.003 * 4 * params
    others = sum(c.bytes for c in found.values()) - found["all-reduce"].bytes
    assert others <= 0.002 * 4 * params


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "vit_b16"])
def test_recipes_gather_sharded_parameters_at_most_twice(name):
    """And reduce the gradient once; the CPU compiler makes an all-reduce of it."""
    step, found = counted(name, fsdp=8)
    summed = sum(found[k].bytes for k in ("all-reduce", "reduce-scatter") if k in found)
    assert 0.98 * step.param_bytes <= summed <= 1.01 * step.param_bytes
    assert found["all-gather"].bytes <= 2 * step.param_bytes


@pytest.mark.slow
def test_vit_blocks_reduce_their_activations_four_times():
    """12 blocks of 4 all-reduces of float32 [8, 145, 768], and a quarter of split parameters."""
    step, found = counted("vit_b16", data=2, model=4)
    activations = 12 * 4 * 8 * 145 * 768 * 4
    gradient = step.param_bytes - step.split_bytes * 3 // 4
    assert step.split_bytes == 12 * (12 * 768 * 768 + 3 * 768 + 3072) * 4
    least = activations + gradient
    assert least <= found["all-reduce"].bytes <= 1.001 * least


def test_batch_that_does_not_divide_is_an_error():
    with pytest.raises(ConfigError, match="does not divide by"):
        scale.lower_step(small_config(virtual_batch_size=32), make_mesh(data=8), size=16)
