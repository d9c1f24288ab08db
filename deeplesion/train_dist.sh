#!/usr/bin/env bash
# The original's name for tools/dist_train.sh.
# usage: deeplesion/train_dist.sh CONFIG GPUS [options of tools/train.py]
exec bash "$(dirname "${BASH_SOURCE[0]}")/../tools/dist_train.sh" "$@"
