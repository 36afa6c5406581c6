#!/usr/bin/env bash
# Trains on this machine, and restarts until done (see until_done.sh):
#   launch/local.sh [--dry_run] [--processes=N] --config=FILE --workdir=DIR [--config.KEY=VALUE ...]
# One process uses all devices; with --processes=N, N processes use one GPU each. Python is $PYTHON,
# or `python`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
  echo "local: $*: write launch/local.sh [--processes=N] --config=FILE --workdir=DIR ..." >&2
  exit 2
}

options=() arguments=() processes='' config='' workdir=''
for argument in "$@"; do
  case $argument in
    --dry_run) options+=(--dry_run) ;;
    --processes=*) processes=${argument#*=} ;;
    *)
      case $argument in --config=*) config=1 ;; --workdir=?*) workdir=1 ;; esac
      arguments+=("$argument")
      ;;
  esac
done
[[ -n $config ]] || usage "--config is missing"
[[ -n $workdir ]] || usage "--workdir is missing"
command=("${PYTHON:-python}" -m imgcls.main "${arguments[@]}")
if [[ -n $processes ]]; then
  [[ $processes =~ ^[1-9][0-9]*$ ]] || usage "--processes=$processes is not a number of processes"
  command=("$here/processes.sh" "$processes" "${command[@]}")
fi
exec "$here/until_done.sh" ${options[@]+"${options[@]}"} "${command[@]}"
