#!/usr/bin/env bash
# Trains on a Kubernetes cluster with JobSet, on GPUs or on a TPU slice of GKE:
#   launch/kubernetes.sh gpu --name=r50 --image=REGISTRY/imgcls:cuda --claim=VOLUME --nodes=2 \
#     --chips=8 --config=configs/resnet50.py --workdir=/data/runs/r50 [--config.KEY=VALUE ...]
#   launch/kubernetes.sh tpu ... --nodes=4 --chips=4 \
#     --accelerator=tpu-v5-lite-podslice --topology=4x4
# The claim is mounted at /data; --chips are GPUs or TPU chips per node. --dry_run prints the
# document. `kubectl delete jobset NAME` stops: the run saves, and the same command continues it.
# Bash must be 4.3 or later.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
  echo "kubernetes: $*: see the head of launch/kubernetes.sh" >&2
  exit 2
}

# A list of strings as JSON, which is valid YAML. Kubernetes would expand $(NAME); $$ is one $.
json_list() {
  local item line=''
  for item in "$@"; do
    if [[ $item == *[[:cntrl:]]* ]]; then usage "an argument has a control character"; fi
    item=${item//\\/\\\\} item=${item//\"/\\\"}
    # shellcheck disable=SC2016
    item=${item//'$('/'$$('}
    line+="${line:+, }\"$item\""
  done
  echo "[$line]"
}

device=${1:-}
case $device in
  gpu | tpu) shift ;;
  *) usage "device ${device:-missing}: write gpu or tpu" ;;
esac
declare -A fields=([NAME]='' [IMAGE]='' [CLAIM]='' [NODES]='' [CHIPS]='')
if [[ $device == tpu ]]; then fields+=([ACCELERATOR]='' [TOPOLOGY]=''); fi
dry_run='' arguments=() config='' workdir=''
for argument in "$@"; do
  name=${argument%%=*} name=${name#--} value=${argument#*=}
  name=${name^^}
  if [[ $argument == --dry_run ]]; then
    dry_run=1
  elif [[ $argument == --?*=* && -v fields[$name] ]]; then
    fields[$name]=$value
  else
    case $argument in --config=?*) config=1 ;; --workdir=/data/?*) workdir=1 ;; esac
    arguments+=("$argument")
  fi
done
[[ -n $config ]] || usage "--config is missing"
[[ -n $workdir ]] || usage "--workdir is missing, or not below /data"

text=$(< "$here/kubernetes-$device.yaml")
for name in "${!fields[@]}"; do
  value=${fields[$name]}
  case $name in
    NODES | CHIPS) pattern='^[1-9][0-9]*$' ;;
    # Followed by "-train-0-0" it is a host name, which has at most 63 characters.
    NAME) pattern='^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$' ;;
    *) pattern='^[A-Za-z0-9][A-Za-z0-9._:/@-]*$' ;;
  esac
  [[ $value =~ $pattern ]] || usage "--${name,,}=$value is missing or does not match $pattern"
  text=${text//"__${name}__"/"$value"}
done
text=${text//__ARGS__/"$(json_list "${arguments[@]}")"}
if [[ -n $dry_run ]]; then
  echo "$text"
else
  kubectl apply -f - <<< "$text"
fi
