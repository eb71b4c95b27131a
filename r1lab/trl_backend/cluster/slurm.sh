#!/bin/bash
# A SLURM job that trains on all GPUs of its nodes and, when its time is up, saves and queues itself
# again. r1lab train --print-launch slurm [options of the run] prints the command. Change the lines
# with #SBATCH to what your cluster offers; run it in the project's folder, on a file system that
# all nodes see.
#
#   R1LAB_COMMAND train (default) or pipeline, which makes every stage of R1
#   R1LAB_ARGS    its options (--backend trl is added)
#   R1LAB_CONFIG  ddp (default), fsdp2 or zero3 (which needs .venv/bin/pip install deepspeed==0.19.8)
#   R1LAB_PYTHON  the interpreter (default: .venv/bin/python)
#SBATCH --job-name=r1lab
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=r1lab-%j.log
set -euo pipefail

export R1LAB_COMMAND=${R1LAB_COMMAND:-train} R1LAB_ARGS=${R1LAB_ARGS:-}
export R1LAB_PYTHON=${R1LAB_PYTHON:-.venv/bin/python}
export R1LAB_FILE=r1lab/trl_backend/cluster/${R1LAB_CONFIG:-ddp}.yaml
# srun does not take --cpus-per-task from the job (since Slurm 22.05)
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export R1LAB_HEAD=${nodes%%$'\n'*} # the first; `| head` would end scontrol with an error

# Five minutes before the end (or at scancel --batch --signal=TERM) SLURM tells this script, and this
# script srun, which hands USR1 on to every node (TERM would make it kill them all).
stopping="" nodes_running=""
stop() {
  stopping=yes
  [ -z "$nodes_running" ] || kill -USR1 "$nodes_running" || true
}
trap stop TERM

# One launcher on every node, and by it one process on every GPU. Told to stop, a launcher tells its
# processes and gives them four minutes to finish the step and to save. A node that is done first then
# leaves in peace, as --kill-on-bad-exit would otherwise end the one that is still writing.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240
srun --kill-on-bad-exit=1 bash -c '
  eval "set -- $R1LAB_ARGS"
  launcher="" told="" code=0
  stop() {
    told=yes
    [ -z "$launcher" ] || kill -TERM "$launcher" || true
  }
  trap stop USR1
  "$R1LAB_PYTHON" -m accelerate.commands.launch --config_file "$R1LAB_FILE" \
    --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * SLURM_GPUS_ON_NODE))" \
    --machine_rank "$SLURM_NODEID" --main_process_ip "$R1LAB_HEAD" --main_process_port 29500 \
    -m r1lab "$R1LAB_COMMAND" --backend trl --device cuda "$@" &
  launcher=$!
  while kill -0 "$launcher" 2>/dev/null; do # a signal ends `wait`, not the launcher
    code=0
    wait "$launcher" || code=$?
  done
  [ -z "$told" ] || exit 0
  exit "$code"' &
nodes_running=$!

status=0
while kill -0 "$nodes_running" 2>/dev/null; do
  status=0
  wait "$nodes_running" || status=$?
done
if [ -n "$stopping" ]; then
  scontrol requeue "$SLURM_JOB_ID" # the same command goes on where it was
  exit 0
fi
exit "$status"
