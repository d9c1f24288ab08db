#!/usr/bin/env bash
# Train on a Slurm cluster as a batch job that goes on after a preemption or its time limit.
# usage: sbatch [options of sbatch] tools/slurm_job.sh CONFIG WORK_DIR [options of tools/train.py]
# Submit it from the root of the repository. GPUS_PER_NODE (8) processes run on each node, started by
# torchrun, or by Slurm itself with LAUNCHER=slurm. MAX_RESTARTS and PYTHON are those of torchrun.sh.
#SBATCH --job-name=deeplesion
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=40
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# A warning to the workers, in time for a checkpoint.
#SBATCH --signal=USR1@120
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
config=$1
work_dir=$2
shift 2
# Slurm runs a copy of this script, which tells nothing of the repository.
tools=${SLURM_SUBMIT_DIR:-$PWD}/tools
if [ ! -f "$tools/train.py" ]; then
    echo "error: there is no $tools/train.py: submit from the root of the repository" >&2
    exit 2
fi
processes=${GPUS_PER_NODE:-8}
nodes=${SLURM_NNODES:-1}
# With --resume from the start: nothing there is nothing to go on from.
arguments=("$config" --work-dir "$work_dir" --resume "$@")
status=0
if [ "${LAUNCHER:-torchrun}" = slurm ]; then
    # No task may end the others, which may be writing: they have some minutes after the first.
    srun --ntasks="$((nodes * processes))" --ntasks-per-node="$processes" \
        --cpus-per-task="$((${SLURM_CPUS_PER_TASK:-$processes} / processes))" \
        --kill-on-bad-exit=0 --wait=300 \
        "${PYTHON:-python}" -u "$tools/train.py" "${arguments[@]}" --launcher slurm || status=$?
else
    # All of the list is read: who closes a pipe early ends the one that writes into it.
    head=$(scontrol show hostnames "${SLURM_JOB_NODELIST:-localhost}" | sed -n 1p)
    export NNODES=$nodes RDZV_ID=$SLURM_JOB_ID
    # Another port for each job that may run on the node.
    export RDZV_ENDPOINT=$head:$((20000 + SLURM_JOB_ID % 20000))
    srun --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=300 \
        bash "$tools/torchrun.sh" train.py "$processes" "${arguments[@]}" || status=$?
fi
if [ "$status" -eq 75 ]; then
    echo "job $SLURM_JOB_ID has written a checkpoint and goes back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
