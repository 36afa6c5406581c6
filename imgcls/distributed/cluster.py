"""Finds the processes of a run: by flags, environment variables or the cluster."""

import os
from typing import NamedTuple

from jax._src import cloud_tpu_init, clusters

from imgcls.core.errors import ConfigError

FLAGS = ("--coordinator", "--num_processes", "--process_id")
ALL_THREE = (
    "start each process with --coordinator=HOST:PORT, --num_processes=N and --process_id=0..N-1"
)


class Place(NamedTuple):
    """Place of a process among the processes of a run.

    Attributes:
      coordinator: HOST:PORT at which the others reach process 0.
      count: number of processes.
      index: index of this process.
      devices: indices of the local devices that this process uses; None for all.
    """

    coordinator: str
    count: int
    index: int
    devices: list[int] | None = None


def find_place(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> Place | None:
    """Finds the place of this process: by flags, else by variables, else by the cluster.

    Args:
      coordinator, num_processes, process_id: flags; None if not set.

    Returns:
      The place, or None if this is the only process.

    Raises:
      ConfigError: the values are incomplete or contradict each other.
    """
    address, count, index, devices = coordinator, num_processes, process_id, None
    if address is None:
        address = os.environ.get("JAX_COORDINATOR_ADDRESS") or None
    if count is None:
        count = _int_variable("JAX_NUM_PROCESSES")
    if index is None:
        index = _int_variable("JAX_PROCESS_ID")
    if count is None or (count > 1 and (address is None or index is None)):
        detected = _detect()
        if detected:
            address = detected.coordinator if address is None else address
            count = detected.count if count is None else count
            index = detected.index if index is None else index
            devices = detected.devices
    if address is None and count is None and index is None:
        return None
    if count == 1 and index in (None, 0):
        return None
    if address is None or count is None or index is None:
        values = zip(FLAGS, (address, count, index), strict=True)
        missing = [flag for flag, value in values if value is None]
        raise ConfigError(f"{' and '.join(missing)} missing: {ALL_THREE}")
    if count < 1 or not 0 <= index < count:
        raise ConfigError(f"--process_id={index} of --num_processes={count}: {ALL_THREE}")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"--coordinator={address}: not HOST:PORT, such as 10.0.0.1:1234")
    return Place(address, count, index, devices)


def _int_variable(name: str) -> int | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}={text!r}: not an integer") from None


def _detect() -> Place | None:
    """The place that JAX detects: TPU workers, SLURM, Open MPI, indexed jobs of Kubernetes."""
    for env in clusters.ClusterEnv._cluster_types:
        # In Kubernetes, only indexed jobs have several processes.
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
        except Exception as e:  # Clusters raise many types.
            raise ConfigError(
                f"the processes of this {env.name} cluster can't be detected ({type(e).__name__}: "
                f"{e}): {ALL_THREE}, or with --num_processes=1 to train in a single process"
            ) from e
    return None


def _local_devices(env: type[clusters.ClusterEnv]) -> list[int] | None:
    """The device with this process's local index; None (all) if no other is on its machine."""
    index = env.get_local_process_id()
    # If SLURM shows a process a single GPU, that is its device 0.
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", os.environ.get("SLURM_TASKS_PER_NODE", ""))
    alone = env.name == "slurm" and tasks.split("(")[0] == "1"
    if index is None or alone or cloud_tpu_init.running_in_cloud_tpu_vm:
        return None
    return None if shown and "," not in shown else [index]
