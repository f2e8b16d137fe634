#!/usr/bin/env bash
# Tests with several processes, one for each GPU; without a GPU they meet over gloo on the CPU.
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [ARGUMENTS OF test.py...]
# Several nodes: set NNODES, MASTER_ADDR and PORT alike on each, and NODE_RANK from 0.
set -euo pipefail

if [ "$#" -lt 3 ]; then
  echo "usage: $0 CONFIG CHECKPOINT GPUS [ARGUMENTS OF test.py...]" >&2
  exit 2
fi
config=$1
checkpoint=$2
gpus=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" \
  --nproc_per_node="$gpus" \
  "$here/test.py" "$config" "$checkpoint" --launcher pytorch "${@:4}"
