"""Communication of a compiled step: counts its collectives, gives the minimum, estimates scaling.

`bench/scale.py` prints all three for the training step.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

# `  ROOT %name = TYPE opcode(`; a type has no space before a parenthesis.
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CHAIN = re.compile(r'\bchannel_id=(\d+),.*\bchain_id="(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Collective(NamedTuple):
    """Collective operations of one kind.

    Attributes:
      kind: one of `KINDS`.
      count: number of operations that one device runs.
      bytes: total size of the full arrays, which are the results of all-gathers and the operands of
        all other kinds.
    """

    kind: str
    count: int
    bytes: int


def count(hlo_text: str) -> list[Collective]:
    """Counts the collectives in one execution of a compiled program, in the order of `KINDS`.

    A pair of start and done is one operation. The body of a `while` is multiplied by its trip
    count, and every branch of a conditional counts once. The TPU compiler splits an operation into
    parts that are fused with the arithmetic that hides them: parts with the same channel and chain
    are one operation. It makes a reduce-scatter of a fused all-reduce and slice. The CPU compiler
    does not, so there such a pair counts as an all-reduce.

    Args:
      hlo_text: text of a partitioned module, `jax.stages.Compiled.as_text()`.

    Raises:
      ValueError: there is no entry computation, or a collective in a loop of unknown length.
    """
    computations, entry = _parse(hlo_text)
    if entry is None:
        raise ValueError("no ENTRY computation: not the text of an HLO module")
    totals: dict[str, collections.Counter] = {}
    chains: set[str] = set()

    def tally(name: str) -> collections.Counter:
        if name not in totals:
            total = collections.Counter()
            for kind, size, chain in _own_collectives(computations[name]):
                if chain in chains:
                    continue
                chains.update([chain] if chain else [])
                if name.startswith("all-reduce-scatter"):
                    kind = "reduce-scatter"
                total[kind, "count"] += 1
                total[kind, "bytes"] += size
            for called, trips in _calls(computations[name]):
                inner = tally(called) if called in computations else {}
                if inner and trips is None:
                    raise ValueError(f"{called}: collectives in a loop of unknown length")
                for key, number in inner.items():
                    total[key] += number * (trips or 0)
            totals[name] = total
        return totals[name]

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
    """Returns the minimum communication of a step on a mesh.

    - `data`: one all-reduce of the gradient.
    - `fsdp`: an all-gather of the parameters, for the forward pass and with `gathers=2` again for
      the backward pass, and a reduce-scatter of the gradient (Rajbhandari et al. 2019,
      arXiv:1910.02054, section 7.2: ZeRO stage 3).
    - `model`: two all-reduces of a block's activations forward and two backward (Shoeybi et al.
      2019, arXiv:1909.08053, section 3).

    Args:
      mesh: size of the axes `data`, `fsdp` and `model`.
      param_bytes: bytes of all parameters, and so of the gradient.
      split_bytes: bytes of the parameters that are sharded over `model`.
      blocks: number of transformer blocks.
      activation_bytes: bytes of the tokens `[B, N, D]` between blocks on one device.
      gathers: number of all-gathers of the parameters under `fsdp`, 1 or 2.
    """
    local = param_bytes - split_bytes + split_bytes // mesh["model"]
    counts, sizes = collections.Counter(), collections.Counter()
    if mesh["fsdp"] > 1:
        counts["all-gather"], sizes["all-gather"] = gathers, gathers * local
        counts["reduce-scatter"], sizes["reduce-scatter"] = 1, local
        local //= mesh["fsdp"]
    if mesh["data"] > 1:
        counts["all-reduce"] += 1
        sizes["all-reduce"] += local
    if mesh["model"] > 1:
        counts["all-reduce"] += 4 * blocks
        sizes["all-reduce"] += 4 * blocks * activation_bytes
    return [Collective(kind, counts[kind], sizes[kind]) for kind in KINDS if counts[kind]]


def wire_bytes(collectives: Iterable[Collective], devices: int) -> float:
    """Returns the bytes that a device sends for collectives in a bandwidth-optimal ring.

    An all-reduce is a reduce-scatter and an all-gather, so it costs twice as much (Patarasuk & Yuan
    2009, Bandwidth optimal all-reduce algorithms for clusters of workstations).

    Args:
      collectives: collectives over all `devices`.
      devices: number of devices in the ring.
    """
    share = (devices - 1) / devices
    factors = dict.fromkeys(KINDS, share) | {"all-reduce": 2 * share, "collective-permute": 1.0}
    return sum(factors[c.kind] * c.bytes for c in collectives)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Published specifications of a machine.

    Attributes:
      name: name of the machine.
      peak: dense bfloat16 FLOP/s of a chip.
      link: bytes/s of a link in one direction.
      links: `{number of chips: links of the chip with the fewest links}`.
    """

    name: str
    peak: float
    link: float
    links: Mapping[int, int]


# cloud.google.com/tpu/docs/v5e: 197 TFLOPs in bf16; interconnect of 400 GB/s per chip, both
# directions together, on 4 ports; slices of 2x4, 4x4, 4x8, 8x8, 8x16 and 16x16. Only an axis of 16
# wraps around to a ring (jax-ml.github.io/scaling-book, How to Think About TPUs). In smaller slices
# a corner has only 2 or 3 links, and the slowest chip limits an all-reduce.
TPU_V5E = Machine("TPU v5e pod", 197e12, 50e9, {8: 2, 16: 2, 32: 2, 64: 2, 128: 3, 256: 4})
# NVIDIA H100 Tensor Core GPU datasheet, SXM: 989 TFLOPS in bf16 (1,979 with sparsity); NVLink of
# 900 GB/s, both directions together, as 18 links to a switch: a GPU can always use all of them.
H100_NODE = Machine("node of 8 H100 SXM", 989e12, 25e9, {1: 18, 2: 18, 4: 18, 8: 18})


@dataclasses.dataclass(frozen=True)
class StepEstimate:
    """Estimated time of a data-parallel step.

    Pairs hold the value without overlap, and with the best possible overlap, of arithmetic and
    communication.

    Attributes:
      compute: seconds of arithmetic.
      sync: seconds of the gradient's all-reduce.
      efficiency: share of the step's time that is arithmetic.
      images_per_second: throughput of all chips together.
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
    """Estimates a data-parallel step from FLOPs and bytes, without latency, input or stragglers.

    Args:
      machine: the chips and links.
      chips: number of chips, a key of `machine.links`.
      batch: images per chip.
      flops_per_image: FLOPs of the forward and backward pass.
      gradient_bytes: bytes that are all-reduced in a step.
      share: share of the peak that the arithmetic reaches.
    """
    compute = batch * flops_per_image / (machine.peak * share)
    sent = wire_bytes([Collective("all-reduce", 1, gradient_bytes)], chips)
    sync = sent / (machine.link * machine.links[chips])
    # The all-reduce can overlap only with the backward pass, two thirds of the arithmetic.
    slow, fast = compute + sync, compute / 3 + max(compute * 2 / 3, sync)
    return StepEstimate(
        compute=compute,
        sync=sync,
        efficiency=(compute / slow, compute / fast),
        images_per_second=(chips * batch / slow, chips * batch / fast),
    )


def _parse(hlo_text: str) -> tuple[dict[str, list[str]], str | None]:
    """Returns the instruction lines of each computation, and the name of the entry computation."""
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
    """Yields kind, bytes and chain of the collectives of one computation, without its calls."""
    sizes: dict[str, int] = {}
    started: dict[str, int] = {}  # operand bytes of the starts
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
            started[name] = taken
            continue
        if opcode.endswith("-done"):
            taken = started[operands[0].split("%")[-1]]
        # The full array is the operand of a reduce-scatter and the result of an all-gather.
        chain = _CHAIN.search(line)
        yield kind, max(taken, sizes[name]), chain and f"{kind} {chain[1]} {chain[2]}"


def _operands(line: str, start: int) -> list[str]:
    """Returns the operands of an instruction, a list of `%name` or `type %name` from `start` on."""
    depth, end = 1, start
    while depth:
        depth += {"(": 1, ")": -1}.get(line[end], 0)
        end += 1
    names = re.findall(r"%[\w.\-]+", line[start : end - 1])
    return names or [line[start : end - 1].strip()]


def _size(type_text: str) -> int:
    """Returns the bytes of an array, or of all arrays of a tuple."""
    return sum(
        math.ceil(int(bits or 8) * math.prod(int(n) for n in shape.split(",") if n) / 8)
        for _, bits, shape in _ARRAY.findall(type_text)
    )


def _calls(lines: list[str]) -> Iterable[tuple[str, int | None]]:
    """Yields the called computations and how often they run; None is a loop of unknown length."""
    for line in lines:
        match = _INSTRUCTION.match(line)
        if not match:
            continue
        trips = 1
        if match[3] == "while":
            known = _TRIPS.search(line)
            trips = int(known[1]) if known else None
        for name in _CALLED.findall(line):
            yield name, trips
        for branches in _BRANCHES.findall(line):
            for name in branches.split(","):
                yield name.strip().lstrip("%"), 1
