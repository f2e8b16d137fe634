#!/usr/bin/env bash
# Trains with several processes, one for each GPU; without a GPU they meet over gloo on the CPU.
#   tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF train.py...]
# Several nodes: set NNODES, MASTER_ADDR and PORT alike on each, and NODE_RANK from 0.
# shellcheck source=tools/_launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"

need_arguments $# 2 'CONFIG GPUS'
with_torchrun "$2" train.py "$1" --launcher pytorch "${@:3}"
