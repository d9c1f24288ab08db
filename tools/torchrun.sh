#!/usr/bin/env bash
# Run a tool in several processes: one a GPU, or on the CPU where there is none.
# usage: tools/torchrun.sh TOOL PROCESSES [arguments of the tool]
# PROCESSES of each node. Without the variables below a free port of this machine is chosen, so that
# two runs on it do not meet.
#   NNODES         number of nodes
#   RDZV_ENDPOINT  HOST:PORT of one of the nodes, the same on all: they find each other there
#   RDZV_ID        a name of the run, where several meet at one endpoint
#   NODE_RANK      0 on the node of the endpoint; needed where it cannot be told by its name
#   LOCAL_ADDR     address of this node, where its name does not lead to it
#   MAX_RESTARTS   how often to start again after a failure; training goes on from its last checkpoint
# The older way, without restarts over several nodes: NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
tool=$1
processes=$2
shift 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
options=(--nproc-per-node="$processes" --max-restarts="${MAX_RESTARTS:-0}")
if [ -n "${RDZV_ENDPOINT:-}" ]; then
    options+=(
        --nnodes="${NNODES:-1}" --rdzv-backend=c10d --rdzv-endpoint="$RDZV_ENDPOINT"
        --rdzv-id="${RDZV_ID:-deeplesion}"
    )
    if [ -n "${NODE_RANK:-}" ]; then
        options+=(--rdzv-conf="is_host=$((NODE_RANK == 0))")
    fi
elif [ -n "${NNODES:-}${PORT:-}" ]; then
    options+=(
        --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}"
        --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}"
    )
else
    options+=(--standalone)
fi
if [ -n "${LOCAL_ADDR:-}" ]; then
    options+=(--local-addr="$LOCAL_ADDR")
fi
exec "${PYTHON:-python}" "$here/launch.py" "${options[@]}" "$here/$tool" "$@" --launcher pytorch
