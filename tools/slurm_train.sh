#!/usr/bin/env bash
# Trains as a job of Slurm, and goes on after an interruption.
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENTS OF train.py...]
# Environment: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS, MAX_RESTARTS (100).
# A run that Slurm interrupts saves a checkpoint and ends with status 75. Within sbatch the job is
# then put back into the queue (submit it with --requeue, --open-mode=append and, for the end of
# its time, --signal=B:USR1@120); without sbatch a new srun waits for its turn. Both resume, as does
# a job whose WORK_DIR holds a run that was interrupted.
# shellcheck source=tools/_launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"

need_arguments $# 4 'PARTITION JOB_NAME CONFIG WORK_DIR'
interrupted=75
marker="$4/interrupted"
arguments=("$3" --work-dir "$4" --launcher slurm "${@:5}")
resume=()
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || [ -e "$marker" ]; then
  resume=(--resume)
fi
for _ in $(seq "${MAX_RESTARTS:-100}"); do
  status=0
  rm -f "$marker"
  with_srun "$1" "$2" train.py "${arguments[@]}" ${resume[@]+"${resume[@]}"} || status=$?
  # srun kills the other processes when the first has ended and then tells their status
  if [ "$status" -ne "$interrupted" ] && [ ! -e "$marker" ]; then
    exit "$status"
  fi
  if [ -n "${SLURM_JOB_ID:-}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit "$interrupted"
  fi
  resume=(--resume)
done
exit "$interrupted"
