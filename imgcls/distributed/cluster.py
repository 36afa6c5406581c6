"""Which processes make up a run: what flags, the environment or the cluster say."""

import os
from typing import NamedTuple

from jax._src import clusters

from imgcls.core.errors import ConfigError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
FLAGS = ("--coordinator", "--num_processes", "--process_id")
ALL_THREE = "give --coordinator=HOST:PORT, --num_processes=N and --process_id=0..N-1 to each"


class Place(NamedTuple):
    """Of one process among many.

    Attributes:
      coordinator: HOST:PORT where process 0 is met.
      count: how many processes there are.
      index: of this one.
      devices: the local devices that this process takes; None is all.
    """

    coordinator: str
    count: int
    index: int
    devices: list[int] | None = None


def find_place(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> Place | None:
    """This process's place: by flags, else by variables, else by the cluster; None if it is alone.

    Args:
      coordinator, num_processes, process_id: the flags; None where one is not given.

    Raises:
      ConfigError: they do not make a place.
    """
    flags = (coordinator, num_processes, process_id)
    given = [f if f is not None else _variable(v) for f, v in zip(flags, VARIABLES, strict=True)]
    devices = None
    if given[1] is None or (given[1] > 1 and None in given):
        found = _detect()
        if found:
            given = [f if g is None else g for g, f in zip(given, found[:3], strict=True)]
            devices = found.devices
    if given == [None] * 3 or (given[1] == 1 and given[2] in (None, 0)):
        return None
    missing = [flag for flag, value in zip(FLAGS, given, strict=True) if value is None]
    if missing:
        raise ConfigError(f"{' and '.join(missing)} missing: {ALL_THREE}")
    address, count, index = given
    if count < 1 or not 0 <= index < count:
        raise ConfigError(f"--process_id={index} of --num_processes={count}: {ALL_THREE}")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"--coordinator={address}: is no HOST:PORT, such as 10.0.0.1:1234")
    return Place(address, count, index, devices)


def _variable(name: str) -> str | int | None:
    text = os.environ.get(name)
    if not text or name == VARIABLES[0]:
        return text or None
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}={text!r}: is no whole number") from None


def _detect() -> Place | None:
    """What JAX finds: a TPU's workers, SLURM, Open MPI, an indexed job of Kubernetes."""
    for env in clusters.ClusterEnv._cluster_types:
        # Of Kubernetes, only an indexed job has many processes; others are not asked.
        other_pod = env.__name__ == "K8sCluster" and "JOB_COMPLETION_INDEX" not in os.environ
        if env.opt_in_only_method or other_pod:
            continue
        try:
            if not env.is_env_present():
                continue
            count = env.get_process_count()
            if count == 1:
                return None
            port = os.environ.get("JAX_COORDINATOR_PORT")
            address = env.get_coordinator_address(60, port)
            return Place(address, count, env.get_process_id(), _local_devices(env))
        except Exception as e:  # Whatever a cluster's own interface raises.
            raise ConfigError(
                f"the processes of this {env.name} cluster are not known ({type(e).__name__}: "
                f"{e}): {ALL_THREE} of them, or --num_processes=1 to train in this one alone"
            ) from e
    return None


def _local_devices(env: type[clusters.ClusterEnv]) -> list[int] | None:
    """One device, by the process's number on its machine, if it is not alone there."""
    index = env.get_local_process_id()
    # One that SLURM has shown a single GPU counts it as its first.
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", os.environ.get("SLURM_TASKS_PER_NODE", ""))
    whole = env.name == "slurm" and tasks.split("(")[0] == "1"
    if index is None or whole or clusters.cluster.running_in_cloud_tpu_vm:
        return None
    return None if shown and "," not in shown else [index]
