#!/usr/bin/env bash
# Trains on a Cloud TPU VM, with all machines of its slice, through gcloud:
#   launch/tpu_vm.sh COMMAND --name=NAME --zone=ZONE [--project=PROJECT] [--dry_run] ...
#     create --accelerator=v5litepod-16 --runtime=v2-alpha-tpuv5-lite [--spot]   queue for a slice
#     wait                                           until it is there
#     install                                        the commit that is checked out, on all machines
#     run --config=FILE --workdir=DIR [--config.KEY=VALUE ...]   train on all, restart until done
#     fetch --workdir=DIR --to=DIR                   copy the workdir here
#     delete                                         give the slice back
#     all                                            create, wait, install, run
# `all` and `run` end with 75 when the slice was taken away, and `all` starts with a new one, so
#   launch/until_done.sh launch/tpu_vm.sh all ... --spot
# trains to the end. With several machines the workdir must be one that all of them see.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

EXIT_AGAIN=75

usage() {
  echo "tpu_vm: $*: see the head of launch/tpu_vm.sh" >&2
  exit 2
}

# Runs a command that changes something, or prints it with --dry_run.
do_it() {
  if [[ -n $dry_run ]]; then printf '%q ' "$@" && echo; else "$@"; fi
}

on_all() { do_it gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"; }

# ACTIVE when the slice is there; MISSING when it was never asked for.
state() {
  gcloud compute tpus queued-resources describe "$name" "${where[@]}" \
    --format='value(state.state)' 2> /dev/null || echo MISSING
}

check_create() {
  [[ -n $accelerator && -n $runtime ]] || usage "create needs --accelerator and --runtime"
}

create() {
  check_create
  do_it gcloud compute tpus queued-resources create "$name" --node-id="$name" "${where[@]}" \
    --accelerator-type="$accelerator" --runtime-version="$runtime" ${spot[@]+"${spot[@]}"}
}

wait_for_it() {
  local now
  if [[ -n $dry_run ]]; then echo "# until the state is ACTIVE"; return; fi
  while now=$(state) && [[ $now != ACTIVE ]]; do
    case $now in
      FAILED | SUSPEND* | DELETING | MISSING)
        echo "tpu_vm: $name is $now" >&2
        return "$EXIT_AGAIN"
        ;;
    esac
    sleep "${IMGCLS_PAUSE:-30}"
  done
}

# A run whose connection broke may still be running; nothing must start next to it.
ALONE='exec 9> .imgcls.lock && flock 9'

install() {
  local archive
  archive=$(mktemp)
  # shellcheck disable=SC2064
  trap "rm -f '$archive'" EXIT
  do_it git -C "$root" archive --format=tar.gz --output="$archive" HEAD
  do_it gcloud compute tpus tpu-vm scp "$archive" "$name:imgcls.tar.gz" "${where[@]}" --worker=all
  on_all "set -e; $ALONE"'
rm -rf imgcls && mkdir imgcls && tar -xzf imgcls.tar.gz -C imgcls
if ! command -v python3.11 > /dev/null; then
  sudo apt-get update -q && sudo apt-get install -y -q python3.11-venv
fi
python3.11 -m venv imgcls/.venv
imgcls/.venv/bin/pip install -q -r imgcls/requirements.txt -r imgcls/requirements-tpu.txt'
}

# The exit code of several machines' runs, whose output is $1: that of a mistake, else a crash's,
# else 0 if all are done. gcloud's own code tells less.
code_of() {
  local codes wrong one
  codes=" $(sed -n 's/.*tpu_vm: exit \([0-9]*\).*/\1/p' "$1" | tr '\n' ' ')"
  for wrong in 2 1; do
    if [[ $codes == *" $wrong "* ]]; then echo "$wrong" && return; fi
  done
  for one in $codes; do
    if ((one != 0 && one != EXIT_AGAIN)); then echo "$one" && return; fi
  done
  if [[ $codes == ' ' || $codes == *" $EXIT_AGAIN "* ]]; then echo "$EXIT_AGAIN"; else echo 0; fi
}

check_run() {
  local all=" ${arguments[*]-}"
  [[ -n $workdir && $all == *' --config='* ]] || usage "run needs --config and --workdir"
}

run() {
  local line log cut='' code
  check_run
  line="$ALONE && cd imgcls && launch/until_done.sh .venv/bin/python -m imgcls.main"
  line+=" $(printf '%q ' "${arguments[@]}"); echo \"tpu_vm: exit \$?\""
  if [[ -n $dry_run ]]; then on_all "$line"; return; fi
  log=$(mktemp)
  on_all "$line" | tee "$log" || cut=1
  code=$(code_of "$log")
  rm -f "$log"
  # Without an exit code from a machine, the connection broke or the slice is gone.
  if [[ -n $cut && $code == 0 ]]; then code=$EXIT_AGAIN; fi
  return "$code"
}

all() {
  # The request of a preempted spot slice remains, and keeps its name in use.
  local now=MISSING
  check_create
  check_run
  if [[ -z $dry_run ]]; then now=$(state); fi
  case $now in FAILED | SUSPEND*) delete ;; esac
  case $now in FAILED | SUSPEND* | MISSING) create ;; esac
  wait_for_it
  install
  run
}

delete() {
  do_it gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
}

fetch() {
  [[ -n $workdir && -n $to ]] || usage "fetch needs --workdir and --to"
  do_it gcloud compute tpus tpu-vm scp --recurse "$name:$workdir" "$to" "${where[@]}" --worker=0
}

command=${1:-}
case $command in
  create | install | run | all | delete | fetch) shift ;;
  wait) command=wait_for_it && shift ;;
  *) usage "command ${command:-missing}: write create, wait, install, run, fetch, delete or all" ;;
esac
dry_run='' name='' accelerator='' runtime='' workdir='' to='' where=() spot=() arguments=()
for argument in "$@"; do
  case $argument in
    --dry_run) dry_run=1 ;;
    --name=*) name=${argument#*=} ;;
    --zone=* | --project=*) where+=("$argument") ;;
    --accelerator=*) accelerator=${argument#*=} ;;
    --runtime=*) runtime=${argument#*=} ;;
    --spot) spot=(--spot) ;;
    --to=*) to=${argument#*=} ;;
    --workdir=*) workdir=${argument#*=} arguments+=("$argument") ;;
    *) arguments+=("$argument") ;;
  esac
done
[[ -n $name ]] || usage "--name is missing"
[[ ${where[*]-} == *--zone=?* ]] || usage "--zone is missing"
if [[ $command != run && $command != all ]] && ((${#arguments[@]} > (${#workdir} > 0))); then
  usage "$command takes no ${arguments[0]}"
fi
"$command"
