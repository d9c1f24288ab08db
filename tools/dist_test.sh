#!/usr/bin/env bash
# Evaluate on several GPUs of this machine (or processes, without a GPU).
# usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [more checkpoints] [options of tools/test.py]
# Several nodes: set NNODES and RDZV_ENDPOINT=HOST:PORT on each; more is in tools/torchrun.sh.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/torchrun.sh" test.py "$3" "$1" "$2" "${@:4}"
