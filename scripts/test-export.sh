#!/usr/bin/env bash
# Exported models against PyTorch itself: writes models and expected logits with the program, then computes them again with
# the modelling file alone and with timm.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(./scripts/torch-python.sh timm safetensors pillow numpy)
golden="$PWD/target/export-golden"
ESTA_EXPORT_GOLDEN="$golden" cargo test --workspace --test export golden
"$python" worker/tests/check_export.py "$golden"
