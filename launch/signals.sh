# shellcheck shell=bash
# Sourced by the launchers: `run COMMAND...` runs the command, passes SIGTERM on to it each time it
# comes (Ctrl-C too, as SIGTERM, so that the run saves), and sets `code` to its exit code.
# `signals` counts them.

# shellcheck disable=SC2034  # `code` is read by the scripts that source this.
child='' signals=0 early=0 code=0

pass_on() {
  signals=$((signals + 1))
  # A signal between `&` and `$!` is kept until the child is known.
  if [[ -n $child ]]; then kill -TERM "$child" 2> /dev/null || true; else early=1; fi
}

# Waits for child $1 and stores its exit code in variable $2.
exit_of() {
  local status=0
  wait "$1" || status=$?
  printf -v "$2" %d "$status"
}

run() {
  local seen later
  "$@" &
  child=$!
  if ((early)); then kill -TERM "$child" 2> /dev/null || true; fi
  seen=$signals
  exit_of "$child" code
  # A signal ends `wait` early. Where the child had ended before, nothing is left to wait for (127).
  while ((seen != signals)); do
    seen=$signals
    exit_of "$child" later
    if ((later != 127)); then code=$later; fi
  done
  child=
}

trap pass_on TERM INT
