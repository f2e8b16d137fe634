#!/usr/bin/env bash
# Trains as a job of Slurm.
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENTS OF train.py...]
# Environment: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS.
set -euo pipefail

if [ "$#" -lt 4 ]; then
  echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENTS OF train.py...]" >&2
  exit 2
fi
partition=$1
job_name=$2
config=$3
work_dir=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# SRUN_ARGS holds several arguments in one string, so it is split on purpose.
# shellcheck disable=SC2086
PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" exec srun \
  --partition="$partition" \
  --job-name="$job_name" \
  --gres="gpu:${GPUS_PER_NODE:-8}" \
  --ntasks="${GPUS:-8}" \
  --ntasks-per-node="${GPUS_PER_NODE:-8}" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} \
  "${PYTHON:-python}" -u "$here/train.py" "$config" --work-dir "$work_dir" --launcher slurm "${@:5}"
