"""What devices say to each other in a compiled step: counted, compared with the least, predicted.

`bench/scale.py` prints it for the training step.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

# `  ROOT %name = TYPE opcode(`; a type has no blank before a parenthesis.
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CHAIN = re.compile(r'\bchannel_id=(\d+),.*\bchain_id="(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Collective(NamedTuple):
    """Operations of one kind.

    Attributes:
      kind: of `KINDS`.
      count: operations that one device runs.
      bytes: of the whole arrays in them, summed: what an all-reduce sums, an all-gather puts
        together, a reduce-scatter starts from, an all-to-all or a permute hands on.
    """

    kind: str
    count: int
    bytes: int


def count(hlo_text: str) -> list[Collective]:
    """The collectives that one run of a compiled program makes, in the order of `KINDS`.

    A pair of start and done is one. The body of a `while` counts as often as it runs, every branch
    of a conditional once. The TPU's compiler cuts an operation into parts, each in a fusion with
    arithmetic that hides it: parts of one channel and chain are one operation. Its reduce-scatter
    is a fusion of an all-reduce and slices. The CPU's compiler leaves such a pair as it is: an
    all-reduce.

    Args:
      hlo_text: `jax.stages.Compiled.as_text()`, a module after partitioning.

    Raises:
      ValueError: no entry computation, or a collective in a loop of unknown length.
    """
    computations, entry = _parse(hlo_text)
    if entry is None:
        raise ValueError("no ENTRY computation: not the text of an HLO module")
    known: dict[str, collections.Counter] = {}
    chains: set[str] = set()

    def tally(name: str) -> collections.Counter:
        if name not in known:
            found = collections.Counter()
            for kind, size, chain in _own_collectives(computations[name]):
                if chain in chains:
                    continue
                chains.update([chain] if chain else [])
                if name.startswith("all-reduce-scatter"):
                    kind = "reduce-scatter"
                found[kind, "count"] += 1
                found[kind, "bytes"] += size
            for called, trips in _calls(computations[name]):
                inner = tally(called) if called in computations else {}
                if inner and trips is None:
                    raise ValueError(f"{called}: collectives in a loop of unknown length")
                for key, number in inner.items():
                    found[key] += number * (trips or 0)
            known[name] = found
        return known[name]

    total = tally(entry)
    return [Collective(k, total[k, "count"], total[k, "bytes"]) for k in KINDS if total[k, "count"]]


def minimum(
    mesh: Mapping[str, int],
    param_bytes: int,
    *,
    split_bytes: int = 0,
    blocks: int = 0,
    activation_bytes: int = 0,
    gathers: int = 1,
) -> list[Collective]:
    """The least that a step must move with parameters placed as on this mesh.

    - `data`: one all-reduce of the gradient.
    - `fsdp`: an all-gather of the parameters, for the forward pass and with `gathers=2` again for
      the backward pass, and a reduce-scatter of the gradient (Rajbhandari et al. 2019,
      arXiv:1910.02054, section 7.2: ZeRO stage 3).
    - `model`: two all-reduces of a block's activations forward and two backward (Shoeybi et al.
      2019, arXiv:1909.08053, section 3).

    Args:
      mesh: size of the axes `data`, `fsdp` and `model`.
      param_bytes: of all parameters, and so of the gradient.
      split_bytes: of those parameters that `model` splits.
      blocks: transformer blocks.
      activation_bytes: of the tokens `[B, N, D]` between blocks on one device.
      gathers: see above.
    """
    held = param_bytes - split_bytes + split_bytes // mesh["model"]
    reduced, found = 0, collections.Counter()
    if mesh["fsdp"] > 1:
        found["all-gather"] = gathers
        found["reduce-scatter"] = 1
        held_bytes = {"all-gather": gathers * held, "reduce-scatter": held}
        held //= mesh["fsdp"]
    else:
        held_bytes = {}
    if mesh["data"] > 1:
        found["all-reduce"] += 1
        reduced += held
    if mesh["model"] > 1:
        found["all-reduce"] += 4 * blocks
        reduced += 4 * blocks * activation_bytes
    sizes = held_bytes | {"all-reduce": reduced}
    return [Collective(kind, found[kind], sizes[kind]) for kind in KINDS if found[kind]]


def wire_bytes(found: Iterable[Collective], devices: int) -> float:
    """Bytes that a device sends for collectives over `devices`, by the bandwidth-optimal ring.

    An all-reduce is a reduce-scatter and an all-gather, so it costs twice as much (Patarasuk & Yuan
    2009, Bandwidth optimal all-reduce algorithms for clusters of workstations).
    """
    share = (devices - 1) / devices
    factors = dict.fromkeys(KINDS, share) | {"all-reduce": 2 * share, "collective-permute": 1.0}
    return sum(factors[c.kind] * c.bytes for c in found)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Chips of one kind, with published numbers.

    Attributes:
      name: for the table's title.
      peak: bfloat16 FLOP/s of a chip, without sparsity.
      link: bytes/s that a link carries in one direction.
      links: `{chips: links of the chip that has fewest}`.
    """

    name: str
    peak: float
    link: float
    links: Mapping[int, int]


# cloud.google.com/tpu/docs/v5e: 197 TFLOPs in bf16; interconnect of 400 GB/s per chip, both
# directions together, on 4 ports; slices of 2x4, 4x4, 4x8, 8x8, 8x16 and 16x16. Only an axis of 16
# closes to a ring (jax-ml.github.io/scaling-book, How to Think About TPUs): the corner of a smaller
# slice has 2 or 3 of its links, and no all-reduce is faster than the chip that sends least.
TPU_V5E = Machine("TPU v5e pod", 197e12, 50e9, {8: 2, 16: 2, 32: 2, 64: 2, 128: 3, 256: 4})
# NVIDIA H100 Tensor Core GPU datasheet, SXM: 989 TFLOPS in bf16 (1,979 with sparsity); NVLink of
# 900 GB/s, both directions together, as 18 links that a switch joins: any number of GPUs has all.
H100_NODE = Machine("node of 8 H100 SXM", 989e12, 25e9, {1: 18, 2: 18, 4: 18, 8: 18})


@dataclasses.dataclass(frozen=True)
class StepEstimate:
    """Of one step; the pairs are (nothing overlaps, all that can overlap does).

    Attributes:
      compute: seconds of arithmetic.
      sync: seconds of the gradient's all-reduce.
      efficiency: arithmetic over the whole step.
      images_per_second: of all chips.
    """

    compute: float
    sync: float
    efficiency: tuple[float, float]
    images_per_second: tuple[float, float]


def estimate_step(
    machine: Machine,
    chips: int,
    batch: float,
    flops_per_image: float,
    gradient_bytes: int,
    share: float,
) -> StepEstimate:
    """Data-parallel training from arithmetic and bytes alone: no latency, no input, no stragglers.

    Args:
      machine: see `Machine`; `chips` is one of its sizes.
      chips: that share a step.
      batch: images per chip.
      flops_per_image: forward and backward.
      gradient_bytes: that are all-reduced in a step.
      share: of the peak that the arithmetic reaches.
    """
    compute = batch * flops_per_image / (machine.peak * share)
    sent = wire_bytes([Collective("all-reduce", 1, gradient_bytes)], chips)
    sync = sent / (machine.link * machine.links[chips])
    # The backward pass is two thirds of the arithmetic; gradients are there only as it goes on.
    steps = compute + sync, compute / 3 + max(compute * 2 / 3, sync)
    efficiency = tuple(compute / step for step in steps)
    return StepEstimate(compute, sync, efficiency, tuple(chips * batch / step for step in steps))


def _parse(hlo_text: str) -> tuple[dict[str, list[str]], str | None]:
    """The instruction lines of every computation, and the name of the entry."""
    computations, lines, entry = {}, None, None
    for line in hlo_text.splitlines():
        if lines is None and (header := _COMPUTATION.match(line)):
            lines = computations[header[2]] = []
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            lines = None
        elif lines is not None:
            lines.append(line)
    return computations, entry


def _own_collectives(lines: list[str]) -> Iterable[tuple[str, int, str | None]]:
    """Kind, bytes and chain of the collectives of one computation, without those that it calls."""
    sizes: dict[str, int] = {}
    given: dict[str, int] = {}  # to the starts that are not done yet
    for line in lines:
        if not (match := _INSTRUCTION.match(line)):
            continue
        name, type_text, opcode = match.groups()
        sizes[name] = _size(type_text)
        kind = re.sub("-(start|done)$", "", opcode)
        if kind not in KINDS:
            continue
        operands = _operands(line, match.end())
        taken = sum(sizes.get(o.split("%")[-1], 0) for o in operands)
        if opcode.endswith("-start"):
            given[name] = taken
            continue
        if opcode.endswith("-done"):
            taken = given[operands[0].split("%")[-1]]
        # The whole array is what goes into a reduce-scatter and what comes out of an all-gather.
        chain = _CHAIN.search(line)
        yield kind, max(taken, sizes[name]), chain and f"{kind} {chain[1]} {chain[2]}"


def _operands(line: str, start: int) -> list[str]:
    """Operands of an instruction, whose list begins at `start`, as `%name` or `type %name`."""
    depth, end = 1, start
    while depth:
        depth += {"(": 1, ")": -1}.get(line[end], 0)
        end += 1
    names = re.findall(r"%[\w.\-]+", line[start : end - 1])
    return names or [line[start : end - 1].strip()]


def _size(type_text: str) -> int:
    """Bytes of an array or of all arrays of a tuple."""
    return sum(
        math.ceil(int(bits or 8) * math.prod(int(n) for n in shape.split(",") if n) / 8)
        for _, bits, shape in _ARRAY.findall(type_text)
    )


def _calls(lines: list[str]) -> Iterable[tuple[str, int | None]]:
    """Computations that are called, and how often; None is a loop of unknown length."""
    for line in lines:
        match = _INSTRUCTION.match(line)
        if not match:
            continue
        trips = 1
        if match[3] == "while":
            found = _TRIPS.search(line)
            trips = int(found[1]) if found else None
        for name in _CALLED.findall(line):
            yield name, trips
        for branches in _BRANCHES.findall(line):
            for name in branches.split(","):
                yield name.strip().lstrip("%"), 1
