#!/usr/bin/env bash
# Make or complete the virtual environment: setup_venv.sh VENV STAMP   (called by make)
#
# VENV/.incomplete is there from the first step to the last, so that an installation that was
# interrupted is made anew by the next make (pip's cache keeps what was downloaded). STAMP holds a
# hash of the pins and of this folder: when both are unchanged, nothing runs and no network is used.
# Two things change torch in a VENV that is otherwise up to date: another TORCH_INDEX, and a GPU where
# there was none when torch was installed without CUDA.
set -euo pipefail

VENV=$1
STAMP=$2
PYTHON=${PYTHON:-python3}
TORCH_INDEX=${TORCH_INDEX:-}
CPU_INDEX=https://download.pytorch.org/whl/cpu

say() { printf 'r1lab: %s\n' "$*"; }
fail() { printf 'r1lab: error: %s\n' "$*" >&2; exit 1; }

command -v "$PYTHON" >/dev/null 2>&1 ||
  fail "'$PYTHON' was not found; install Python 3.10 or newer, or name one: make PYTHON=python3.12"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  fail "$("$PYTHON" --version 2>&1) is too old; Python 3.10 or newer is needed: make PYTHON=python3.12"

fingerprint() {
  { cat pyproject.toml constraints.txt; pwd; } |
    "$PYTHON" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}
works() { "$VENV/bin/python" -m pip --version >/dev/null 2>&1; }

driver() { # of an NVIDIA GPU that works; nvidia-smi says on its output, too, that there is none
  local said
  said=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null) || return 0
  printf '%s\n' "${said%%$'\n'*}"
}
without_cuda() { compgen -G "$VENV/lib/python*/site-packages/torch-*+cpu.dist-info" >/dev/null; }
index_file=$VENV/.torch-index # the TORCH_INDEX that was asked for, if any
other_torch() {
  if [ -n "$TORCH_INDEX" ]; then
    [ "$(cat "$index_file" 2>/dev/null)" != "$TORCH_INDEX" ]
  else
    [ ! -f "$index_file" ] && without_cuda && [ -n "$(driver)" ]
  fi
}

wanted=$(fingerprint)
if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$wanted" ] && works && ! other_torch; then
  touch "$STAMP" # newer files, same content: a fresh checkout, for example
  exit 0
fi

if [ -e "$VENV/.incomplete" ] || ! works; then
  [ -e "$VENV" ] && say "$VENV is incomplete; making it anew"
  say "making $VENV with $("$PYTHON" --version 2>&1)"
  "$PYTHON" -m venv --clear "$VENV" ||
    fail "could not make $VENV (on Debian and Ubuntu: apt install python3-venv)"
fi
constraints=constraints.txt
if [ -n "$TORCH_INDEX" ] || [ -f "$index_file" ]; then # another CUDA's libraries have other versions
  constraints=$VENV/constraints.txt
  grep -Ev '^(cuda-|nvidia-|triton)' constraints.txt >"$constraints"
fi
pip=("$VENV/bin/python" -m pip install --constraint "$constraints")

torch_pin=$(sed -n 's/^torch==//p' constraints.txt)
have_torch=$("$VENV/bin/python" - <<'EOF'
from importlib.metadata import PackageNotFoundError, version
try:
    print(version("torch").split("+")[0])
except PackageNotFoundError:
    print("none")
EOF
)

install_torch() { # install_torch PIP-OPTIONS: from the index that was asked for, or that fits
  local index=()
  if [ -n "$TORCH_INDEX" ]; then
    index=(--extra-index-url "$TORCH_INDEX")
  elif [ "$(uname -s)" = Linux ] && [ -z "$(driver)" ]; then
    # PyPI's Linux wheels carry CUDA (gigabytes); the CPU wheels live on PyTorch's own index.
    if "$VENV/bin/python" - "$CPU_INDEX/torch/" 2>/dev/null <<'EOF'
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=3).close()
EOF
    then
      index=(--extra-index-url "$CPU_INDEX")
    else
      say "PyTorch's CPU index does not answer; taking torch from pip's configured sources"
    fi
  fi
  # the empty-array form below is for the bash 3.2 of macOS
  "${pip[@]}" --progress-bar off "$@" ${index[@]+"${index[@]}"} "torch==$torch_pin"
}

if [ "$have_torch" != none ] && other_torch; then # pip downloads before it removes
  say "torch comes anew, from ${TORCH_INDEX:-a source with CUDA, as there is a GPU}"
  if install_torch --force-reinstall --no-deps --retries 1; then
    have_torch=none # what it depends on is still to come
  elif [ -n "$TORCH_INDEX" ]; then
    fail "torch $torch_pin could not be had from $TORCH_INDEX; the one that was there is unchanged"
  else
    say "warning: torch with CUDA could not be had (is there a network?); what is there stays, and" \
      "computes on the CPU"
    [ ! -f "$STAMP" ] || [ "$(cat "$STAMP")" != "$wanted" ] || exit 0
  fi
fi

rm -f "$STAMP"
touch "$VENV/.incomplete"
[ -z "$TORCH_INDEX" ] || printf '%s\n' "$TORCH_INDEX" >"$index_file"
if [ "$have_torch" != "$torch_pin" ]; then
  say "installing torch $torch_pin"
  install_torch ||
    fail "torch $torch_pin could not be installed; check the network and run make again"
fi

say "installing the pinned packages (a few minutes the first time)"
setuptools_pin=$(sed -n 's/^setuptools==//p' constraints.txt)
{ "${pip[@]}" --quiet "setuptools==$setuptools_pin" &&
  "${pip[@]}" --quiet --no-build-isolation --editable '.[test,figures]'; } ||
  fail "the packages could not be installed; check the network and run make again"

# An editable installation leaves out data files; JupyterLab draws the figures with this one.
mkdir -p "$VENV/share/jupyter/labextensions"
ln -sfn "$PWD/r1lab/show/jupyter/labextensions/r1lab" "$VENV/share/jupyter/labextensions/r1lab"

# Packages of which only the files are wanted, not what they depend on ([tool.r1lab] in pyproject).
files_only=$(sed -n 's/^without-dependencies = \[\(.*\)\]$/\1/p' pyproject.toml | tr -d '",')
# shellcheck disable=SC2086 # a list of words
[ -z "$files_only" ] || "${pip[@]}" --quiet --no-deps $files_only ||
  fail "$files_only could not be installed; check the network and run make again"

if [ -n "$(driver)" ] && ! without_cuda; then
  "$VENV/bin/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null ||
    say "warning: there is an NVIDIA GPU (driver $(driver)), and this torch $torch_pin cannot use it." \
      "PyPI's is for CUDA 13, which needs driver 580 or newer; with an older one builds for CUDA 12.6" \
      "may do: make setup TORCH_INDEX=https://download.pytorch.org/whl/cu126"
fi

rm -f "$VENV/.incomplete"
printf '%s\n' "$wanted" >"$STAMP"
say "$VENV is ready"
