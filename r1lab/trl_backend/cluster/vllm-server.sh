#!/bin/bash
# A vLLM server that samples the completions, on its own GPUs; TRL sends it the new weights after every
# step (NCCL), so trainer and server must see each other on the network. Needs `pip install vllm`,
# in a version that the pinned TRL takes (0.22 to 0.31).
#   GPUs 0 and 1 serve, the others train:
#     CUDA_VISIBLE_DEVICES=0,1 bash vllm-server.sh MODEL 2
#     CUDA_VISIBLE_DEVICES=2,3,4,5 and what r1lab train --print-launch vllm prints for the training
#   $1 model: hub id or folder, the same as --model   $2 GPUs that share it (default 1)
#   $3 port (default 8000)
set -euo pipefail
MODEL=${1:?the model: a hub id or a folder}
# processed_logprobs: of the distribution that was drawn from, as the correction for the difference
# between server and trainer needs them. DEV_MODE opens the weight transfer: on trusted networks only.
export VLLM_SERVER_DEV_MODE=1
exec vllm serve "$MODEL" \
  --tensor-parallel-size "${2:-1}" --host 0.0.0.0 --port "${3:-8000}" \
  --weight-transfer-config '{"backend":"nccl"}' \
  --logprobs-mode processed_logprobs --max-logprobs -1
