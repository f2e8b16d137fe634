# Sourced by dist_*.sh and slurm_*.sh: how a tool is started in several processes.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"

# need_arguments GIVEN WANTED "NAMES OF THE WANTED"
need_arguments() {
  if [ "$1" -lt "$2" ]; then
    echo "usage: $0 $3 [ARGUMENTS OF $(basename "$0" | sed 's/.*_\(.*\)\.sh/\1.py/')...]" >&2
    exit 2
  fi
}

# with_torchrun PROCESSES TOOL [ARGUMENTS...]: on this node; several nodes by environment.
with_torchrun() {
  # left to itself it dies of USR1 and leaves its processes behind; it passes on what it handles
  # (the default of --signals-to-handle, which not all versions have)
  export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
  exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$1" \
    "$tools/$2" "${@:3}"
}

# with_srun PARTITION JOB_NAME TOOL [ARGUMENTS...]: one task for each GPU; passes signals on.
with_srun() {
  # SRUN_ARGS holds several arguments in one string, so it is split on purpose.
  # shellcheck disable=SC2086
  srun \
    --partition="$1" \
    --job-name="$2" \
    --gres="gpu:${GPUS_PER_NODE:-8}" \
    --ntasks="${GPUS:-8}" \
    --ntasks-per-node="${GPUS_PER_NODE:-8}" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$tools/$3" "${@:4}" &
  local child=$! status=0
  trap 'kill -TERM $child 2>/dev/null' TERM
  trap 'kill -USR1 $child 2>/dev/null' USR1
  wait $child || status=$?
  while kill -0 $child 2>/dev/null; do  # a signal ended the wait, not the job
    status=0
    wait $child || status=$?
  done
  return $status
}
