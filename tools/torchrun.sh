#!/usr/bin/env bash
# Run a tool in several processes of this machine: one a GPU, or on the CPU where there is none.
# usage: tools/torchrun.sh TOOL PROCESSES [arguments of the tool]
# Several nodes: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
# Without them a free port is chosen, so that two runs on one machine do not meet.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
tool=$1
processes=$2
shift 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -n "${NNODES:-}${PORT:-}" ]; then
    rendezvous=(
        --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}"
    )
else
    rendezvous=(--standalone)
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${rendezvous[@]}" \
    --nproc_per_node="$processes" "$here/$tool" "$@" --launcher pytorch
