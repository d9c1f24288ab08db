#!/usr/bin/env bash
# The original's name for tools/test.py.
# usage: deeplesion/eval.sh CONFIG CHECKPOINT [options of tools/test.py]
exec "${PYTHON:-python}" "$(dirname "${BASH_SOURCE[0]}")/../tools/test.py" "$@"
