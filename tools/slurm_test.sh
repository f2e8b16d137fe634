#!/usr/bin/env bash
# Tests as a job of Slurm.
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [ARGUMENTS OF test.py...]
# Environment: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS.
# shellcheck source=tools/_launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"

need_arguments $# 4 'PARTITION JOB_NAME CONFIG CHECKPOINT'
with_srun "$1" "$2" test.py "$3" "$4" --launcher slurm "${@:5}"
