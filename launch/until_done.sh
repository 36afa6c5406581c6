#!/usr/bin/env bash
# Runs a training command, and restarts it until it is done:
#   launch/until_done.sh [--dry_run] COMMAND... --workdir=DIR ...
# Exit codes 0 (done), 1 (the data or the training is wrong) and 2 (the command is wrong) end it.
# After 75 (stopped with a checkpoint, or another process was lost) the command starts at once;
# after anything else, a crash, after a pause that doubles from IMGCLS_PAUSE=10 seconds. It gives up
# after 5 crashes or 20 times 75 in a row without a newer checkpoint in the workdir, with the last
# code. SIGTERM and Ctrl-C are passed on as SIGTERM, each time; the command then ends with its
# checkpoint, and this with its code: the machine is going away, so nothing is restarted.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

CRASHES=5 AGAINS=20 EXIT_AGAIN=75
# Seconds of work that count as progress if the workdir exists only on a remote machine.
LONG=1800

say() { echo "until_done: $*" >&2; }

# Step of the newest complete checkpoint; the names of others are not numbers.
newest_checkpoint() {
  local newest=-1 path step
  for path in "$workdir"/checkpoints/*/; do
    step=${path%/} step=${step##*/}
    if [[ $step =~ ^[0-9]{1,18}$ ]] && ((10#$step > newest)); then newest=$((10#$step)); fi
  done
  echo "$newest"
}

# Whether JAX will find nothing but the CPU: by its variable, else by the devices of GPUs and TPUs.
on_cpu() {
  local pattern
  if [[ -n ${JAX_PLATFORMS:-} ]]; then
    [[ $JAX_PLATFORMS == cpu ]]
    return
  fi
  for pattern in '/dev/nvidia[0-9]*' /dev/kfd /dev/dxg '/dev/accel*' '/dev/vfio/[0-9]*'; do
    if compgen -G "$pattern" > /dev/null; then return 1; fi
  done
}

if [[ ${1:-} == --dry_run ]]; then
  shift
  printf '%q ' "$@" && echo "# until it exits with 0, 1 or 2"
  exit 0
fi
if (($# == 0)); then
  say "no command: write launch/until_done.sh python -m imgcls.main --config=... --workdir=..."
  exit 2
fi
workdir=
for argument in "$@"; do
  case $argument in --workdir=*) workdir=${argument#*=} ;; esac
done

# On a CPU, every step of XLA allocates gigabytes. Huge pages need one page fault for 2 MB instead
# of 512, which saves up to 13 % of a ViT's step. glibc reads the variable when a program starts.
if [[ $OSTYPE == linux* ]] && on_cpu; then
  export GLIBC_TUNABLES=${GLIBC_TUNABLES-glibc.malloc.hugetlb=1}
fi

# shellcheck source-path=SCRIPTDIR
source "$here/signals.sh"
crashes=0 agains=0 newest=$(newest_checkpoint)
while true; do
  started=$SECONDS
  run "$@"
  if ((code <= 2 || signals)); then exit "$code"; fi
  before=$newest newest=$(newest_checkpoint)
  if ((newest > before)) || [[ ! -d $workdir && $((SECONDS - started)) -gt $LONG ]]; then
    crashes=0 agains=0
  fi
  if ((code == EXIT_AGAIN)); then
    agains=$((agains + 1)) pause=0
  else
    crashes=$((crashes + 1)) pause=$((${IMGCLS_PAUSE:-10} * 2 ** (crashes - 1)))
  fi
  if ((crashes >= CRASHES || agains >= AGAINS)); then
    say "exit $code: given up, $crashes crashes and $agains interruptions without a new checkpoint"
    exit "$code"
  fi
  say "exit $code: again in $pause seconds"
  last=$code
  run sleep "$pause"
  if ((signals)); then exit "$last"; fi
done
