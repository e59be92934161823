#!/usr/bin/env bash
# Runs a command where one CUDA device is seen, made of host memory: the path of a GPU on a machine that has none. Programs are the
# CPU's, from `cargo build --workspace`.
#
#   scripts/rehearse.sh env DEVICE=cuda WORKERS=2 scripts/quickstart.sh
#   ESTA_REHEARSAL_MIB=512 scripts/rehearse.sh esta-worker profile --config job.yaml --device cuda
set -euo pipefail

[ $# -gt 0 ] || { echo "rehearse.sh: a command is missing" >&2; exit 2; }
target=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}
library=$(find "$target" -path '*/build/esta-rehearsal-*/out/libesta_rehearsal.so' -printf '%T@ %p\n' 2>/dev/null | sort -rn | sed -n '1s/^[^ ]* //p') || true
[ -n "$library" ] || { echo "rehearse.sh: no device below $target: run 'cargo build --workspace' first" >&2; exit 1; }
LD_PRELOAD=$(realpath "$library") exec "$@"
