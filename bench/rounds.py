"""Comparisons: each contestant runs in a process of its own, and they are measured in turns.

Over several rounds, other load on the machine affects all of them equally. A script calls `compare`
in the parent and `serve` in its children, which are the same script with `--child=NAME`.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

# The scripts use the package of this repository, installed or not.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

# Seconds between two turns, until the workers of the last one have filled their buffers.
SETTLE = 2.0


def create_parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser with the options that all comparisons have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def compare(
    title: str,
    names: list[str],
    rounds: int,
    *arguments: str,
    env: dict[str, dict[str, str]] | None = None,
    unit: str = "images/s",
) -> dict[str, list[float]]:
    """Measures the contestants in turns and prints a Markdown table.

    Args:
      title: title of the table.
      names: names of the contestants; the first is ours.
      rounds: number of turns of each contestant.
      arguments: additional command-line arguments of the children.
      env: additional environment variables of a child, by its name.
      unit: what is measured.

    Returns:
      `{name: results by round}` of the contestants that could start.
    """
    children = {}
    try:
        for name in names:
            child = _start(name, arguments, (env or {}).get(name))
            if child.stdout.readline().strip() == "ready":
                children[name] = child
            else:
                print(f"{name} did not start (exit code {child.wait()})", file=sys.stderr)
        results = {name: [] for name in children}
        for _ in range(rounds):
            for name, child in children.items():
                time.sleep(SETTLE)
                child.stdin.write("go\n")
                child.stdin.flush()
                results[name].append(json.loads(child.stdout.readline()))
    finally:
        for child in children.values():
            child.stdin.close()
            child.wait()
    print(to_table(title, results, names[0], unit), flush=True)
    return results


def ask(name: str, *arguments: str):
    """Starts a child, and returns the result of one measurement.

    Raises:
      SystemExit: the child failed.
    """
    child = _start(name, arguments)
    answer, _ = child.communicate("go\n")
    lines = answer.splitlines()
    if len(lines) != 2:
        sys.exit(f"error: {name} failed (exit code {child.returncode})")
    return json.loads(lines[1])


def to_table(title: str, results: dict[str, list[float]], ours: str, unit: str = "images/s") -> str:
    """Formats median and range of the rounds, and the ratio of ours to theirs, as Markdown."""
    lines = [f"| {title} | {unit}, median | lowest to highest | ours / theirs |"]
    lines.append("|---|---|---|---|")
    for name, values in results.items():
        ratio = "-"
        if ours in results and name != ours:
            ratio = f"{statistics.median(results[ours]) / statistics.median(values):.2f}"
        numbers = (statistics.median(values), min(values), max(values))
        median, low, high = (f"{v:,.3g}" if v < 100 else f"{v:,.0f}" for v in numbers)
        lines.append(f"| {name} | {median} | {low} to {high} | {ratio} |")
    return "\n".join(lines) + "\n"


def serve(create: Callable[[], Callable[[], float]]) -> None:
    """Runs a child: sets up, then measures on each request of the parent.

    Args:
      create: sets up and warms up; returns a function that measures one turn.
    """
    # What libraries print goes to the standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    measure = create()
    print("ready", file=answers)
    for _ in sys.stdin:
        print(json.dumps(measure()), file=answers)


def steps_per_second(run: Callable[[int], None], images: int, seconds: float) -> Callable:
    """Returns a function that measures the images/s of `run(n)`.

    Args:
      run: runs n steps and waits for them.
      images: images per step.
      seconds: approximate length of a turn.
    """
    run(2)
    start = time.perf_counter()
    run(2)
    count = max(int(seconds * 2 / (time.perf_counter() - start)), 2)

    def measure() -> float:
        run(1)  # After the pause between two turns, caches are cold.
        start = time.perf_counter()
        run(count)
        return images * count / (time.perf_counter() - start)

    return measure


def batches_per_second(batches, images: int, seconds: float, skip: int = 6) -> Callable:
    """Returns a function that measures the images/s of an endless iterator of batches.

    Args:
      batches: iterator of batches.
      images: images per batch.
      seconds: length of a turn.
      skip: untimed batches at the start of a turn, which may have been prefetched.
    """
    next(batches)

    def measure() -> float:
        for _ in range(skip):
            next(batches)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            next(batches)
            count += 1
        return images * count / (time.perf_counter() - start)

    return measure


def _start(name: str, arguments: tuple[str, ...], env: dict | None = None) -> subprocess.Popen:
    command = [sys.executable, *sys.argv, *arguments, f"--child={name}"]
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"} | (env or {})
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)


def peer_path(variable: str, *parts: str) -> None:
    """Adds a checkout, given by an environment variable, to Python's path."""
    if variable not in os.environ:
        sys.exit(f"error: {variable} is not set: see bench/README.md")
    sys.path.insert(0, os.path.join(os.environ[variable], *parts))
