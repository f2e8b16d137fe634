#!/usr/bin/env bash
# Trains with several processes, one for each GPU; without a GPU they meet over gloo on the CPU.
#   tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF train.py...]
# Several nodes: set NNODES, MASTER_ADDR and PORT alike on each, and NODE_RANK from 0.
set -euo pipefail

if [ "$#" -lt 2 ]; then
  echo "usage: $0 CONFIG GPUS [ARGUMENTS OF train.py...]" >&2
  exit 2
fi
config=$1
gpus=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" \
  --nproc_per_node="$gpus" \
  "$here/train.py" "$config" --launcher pytorch "${@:3}"
