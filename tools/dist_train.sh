#!/usr/bin/env bash
# Train on several GPUs of this machine (or processes, without a GPU).
# usage: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several nodes: set NNODES and RDZV_ENDPOINT=HOST:PORT on each; more is in tools/torchrun.sh.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/torchrun.sh" train.py "$2" "$1" "${@:3}"
