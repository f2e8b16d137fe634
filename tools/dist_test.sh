#!/usr/bin/env bash
# Tests with several processes, one for each GPU; without a GPU they meet over gloo on the CPU.
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [ARGUMENTS OF test.py...]
# Several nodes: set NNODES, MASTER_ADDR and PORT alike on each, and NODE_RANK from 0.
# shellcheck source=tools/_launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"

need_arguments $# 3 'CONFIG CHECKPOINT GPUS'
with_torchrun "$3" test.py "$1" "$2" --launcher pytorch "${@:4}"
