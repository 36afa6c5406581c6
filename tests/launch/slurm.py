"""Stand-ins for SLURM's programs: tasks on this machine, with the variables that JAX reads.

`srun` starts $SLURM_NTASKS tasks, passes SIGTERM on to each, and ends with the highest exit code,
as its manual page says. `scontrol requeue` notes the job's number.
"""

import os
import socket

SRUN = """#!/usr/bin/env python3
import os, signal, subprocess, sys

command = sys.argv[1:]
while command[0].startswith("--"):
    command.pop(0)
count = int(os.environ["SLURM_NTASKS"])
step = {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1"}
step["SLURM_STEP_TASKS_PER_NODE"] = str(count)
tasks = []
for sent in (signal.SIGTERM,):
    signal.signal(sent, lambda number, frame: [task.send_signal(number) for task in tasks])
for i in range(count):
    own = {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}
    tasks.append(subprocess.Popen(command, env=os.environ | step | own))
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""

SCONTROL = """#!/usr/bin/env bash
case $1 in
  requeue) echo "$2" >> "$(dirname "$0")/requeued" ;;
  show) echo localhost ;;
esac
"""


def free_job_id() -> int:
    """A number of a job whose port, which JAX takes from it, is free."""
    for job in range(os.getpid() * 7, os.getpid() * 7 + 4096):
        with socket.socket() as s:
            try:
                s.bind(("localhost", job % 2**12 + 2**16 - 2**12))
                return job
            except OSError:
                continue
    raise AssertionError("no port is free")


def job_env(tasks: int) -> dict[str, str]:
    """What a batch script of one node finds; variables of a step are srun's to set."""
    return {
        "SLURM_JOB_ID": str(free_job_id()),
        "SLURM_NTASKS": str(tasks),
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NODELIST": "localhost",
        "SLURM_JOB_NUM_NODES": "1",
    }
