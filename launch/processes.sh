#!/usr/bin/env bash
# Starts COUNT processes of one training run on this machine, and ends when all have ended:
#   launch/processes.sh COUNT COMMAND...
# Process I uses GPU I, if there are GPUs. The exit code is 1 or 2 if a process ended with it, else
# that of a crash, else 75, else 0. If one fails, the others detect it and exit; those still running
# after IMGCLS_GRACE=300 seconds are killed.
set -euo pipefail

EXIT_AGAIN=75

free_port() {
  "${PYTHON:-python}" -c \
    'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

# The more informative of two exit codes.
worse() {
  local code
  for code in 2 1; do
    if (($1 == code || $2 == code)); then echo "$code" && return; fi
  done
  for code in "$1" "$2"; do
    if ((code != 0 && code != EXIT_AGAIN)); then echo "$code" && return; fi
  done
  echo $(($1 > $2 ? $1 : $2))
}

pass_on() {
  signals=$((signals + 1))
  local pid
  for pid in "${running[@]}"; do kill -TERM "$pid" 2> /dev/null || true; done
}

# Takes the processes that have ended out of `running`, and their codes into `code`.
collect() {
  local pid one left=()
  for pid in "${running[@]}"; do
    if kill -0 "$pid" 2> /dev/null; then
      left+=("$pid")
    else
      one=0
      wait "$pid" || one=$?
      if ((killed)); then one=$EXIT_AGAIN; fi
      code=$(worse "$code" "$one")
      if ((one)) && [[ -z $deadline ]]; then deadline=$((SECONDS + ${IMGCLS_GRACE:-300})); fi
    fi
  done
  running=(${left[@]+"${left[@]}"})
}

if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]] || (($# < 2)); then
  echo "processes: write launch/processes.sh COUNT COMMAND..., with COUNT 1, 2, ..." >&2
  exit 2
fi
count=$1 code=0 deadline='' signals=0 killed=0 running=()
shift
address=localhost:$(free_port)
trap pass_on TERM INT
for ((i = 0; i < count && !signals; i++)); do
  JAX_LOCAL_DEVICE_IDS=$i "$@" --coordinator="$address" --num_processes="$count" --process_id="$i" &
  running+=("$!")
done
if ((signals)); then pass_on; fi
while ((${#running[@]})); do
  # A signal to all of the terminal's processes ends it too.
  sleep 0.2 || true
  collect
  if [[ -n $deadline ]] && ((SECONDS > deadline && ${#running[@]})); then
    echo "processes: ${#running[@]} did not follow the one that ended: killed" >&2
    kill -KILL "${running[@]}" 2> /dev/null || true
    killed=1 deadline=$((SECONDS + 10))
  fi
done
exit "$code"
