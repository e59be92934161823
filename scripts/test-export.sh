#!/usr/bin/env bash
# Exported models against PyTorch itself: writes models and expected logits with the program, then computes them again with
# the modelling file alone and with timm, in a virtual environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${ESTA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/esta}"
venv="$cache/venv-check"

if [ ! -e "$venv/ready" ]; then
  echo "test-export: installing PyTorch and timm (4.7 GB, once)" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --disable-pip-version-check -q torch==2.11.0 timm safetensors pillow numpy
  touch "$venv/ready"
fi
golden="$PWD/target/export-golden"
ESTA_EXPORT_GOLDEN="$golden" cargo test -p esta-worker --test export golden
"$venv/bin/python" worker/tests/check_export.py "$golden"
