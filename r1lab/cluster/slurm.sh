#!/bin/bash
# A SLURM job that trains on all GPUs of its nodes and, when its time is up, saves and queues itself
# again. r1lab train --print-launch slurm [options of the run] prints the command. Change the lines
# with #SBATCH to what your cluster offers; run it in the project's folder, on a file system that
# all nodes see.
#
#   R1LAB_ARGS    options of r1lab train (--backend trl is added)
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

export R1LAB_ARGS=${R1LAB_ARGS:-}
export R1LAB_PYTHON=${R1LAB_PYTHON:-.venv/bin/python}
export R1LAB_FILE=r1lab/cluster/${R1LAB_CONFIG:-ddp}.yaml
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun takes no --cpus-per-task from the job
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export R1LAB_HEAD=${nodes%%$'\n'*} # the first; `| head` would end scontrol with an error

# One launcher on every node, and by it one process on every GPU. Told to stop, a launcher tells its
# processes and gives them ten minutes to finish the step and to save. A node that is done first then
# leaves in peace, as --kill-on-bad-exit would otherwise end the one that is still writing.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600
srun --kill-on-bad-exit=1 bash -c '
  eval "set -- $R1LAB_ARGS"
  "$R1LAB_PYTHON" -m accelerate.commands.launch --config_file "$R1LAB_FILE" \
    --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * SLURM_GPUS_ON_NODE))" \
    --machine_rank "$SLURM_NODEID" --main_process_ip "$R1LAB_HEAD" --main_process_port 29500 \
    -m r1lab train --backend trl --device cuda "$@" &
  launcher=$! told="" code=0
  trap "told=yes; kill -TERM $launcher" TERM
  wait "$launcher" || code=$?
  [ -z "$told" ] || { wait "$launcher" || true; exit 0; }
  exit "$code"' &
launchers=$!

# Five minutes before the end (or at scancel --batch --signal=TERM) SLURM tells this script, and this
# script srun, which hands a signal on to all nodes.
stopping=""
stop() {
  stopping=yes
  kill -TERM "$launchers"
}
trap stop TERM

status=0
wait "$launchers" || status=$?
if [ -n "$stopping" ]; then # `wait` came back because of the signal: now for the end
  wait "$launchers" || true
  scontrol requeue "$SLURM_JOB_ID" # the same command goes on where it was
  exit 0
fi
exit "$status"
