#!/usr/bin/env bash
# Builds an image: launch/docker/build.sh [--dry_run] cpu|cuda|tpu [NAME:TAG]
#   docker run --gpus=all --shm-size=8g --stop-timeout=120 -v /data:/data imgcls:cuda \
#     --config=configs/digits.py --workdir=/data/runs/digits
# The container's user has the number 1000, and must be able to write to the workdir.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)

run=()
if [[ ${1:-} == --dry_run ]]; then run=(printf '%q ') && shift; fi
case ${1:-} in
  cpu | cuda | tpu) ;;
  *)
    echo "build: device ${1:-missing}: write launch/docker/build.sh cpu, cuda or tpu" >&2
    exit 2
    ;;
esac
${run[@]+"${run[@]}"} docker build --file="$root/launch/docker/Dockerfile.$1" \
  --tag="${2:-imgcls:$1}" "$root"
