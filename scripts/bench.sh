#!/usr/bin/env bash
# Measures a worker's step against the same step in plain PyTorch, and what ESTA costs in time, bytes and memory; prints
# one table. Arguments go to scripts/bench/bench.py, such as `--only step --rounds 3`. Wants a quiet machine.
# Environment: ESTA_CACHE; BENCH_PYTHON, a Python with torch of the same version, made in the cache when absent.
set -euo pipefail

TORCH_VERSION=2.11.0
cd "$(dirname "$0")/.."
cache="${ESTA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/esta}"
target="${CARGO_TARGET_DIR:-target}/release"

say() { printf 'bench: %s\n' "$*" >&2; }

has_torch() { "$1" -c "import torch; assert torch.__version__.split('+')[0] == '$TORCH_VERSION'" 2>/dev/null; }

python() { # a Python with the libtorch the worker is linked to; the folder is the one of the CUDA form of libtorch
  local venv="$cache/venv-cuda-$TORCH_VERSION"
  if [ -n "${BENCH_PYTHON:-}" ]; then
    has_torch "$BENCH_PYTHON" || { say "$BENCH_PYTHON has no torch $TORCH_VERSION"; exit 1; }
    echo "$BENCH_PYTHON"
    return
  fi
  if ! has_torch "$venv/bin/python"; then
    say "installing torch $TORCH_VERSION into $venv (4.7 GB, once)"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --disable-pip-version-check -q "torch==$TORCH_VERSION" >&2
  fi
  echo "$venv/bin/python"
}

cargo build --release -p esta-engine --example bench_law
cargo build --release -p esta-worker --example bench_step
cargo build --release -p esta-coordinator -p esta-worker
interpreter=$(python)
"$interpreter" scripts/bench/bench.py --law "$target/examples/bench_law" --step "$target/examples/bench_step" \
  --digits .cache/data/digits/digits.csv.gz "$@"
if [ -e .cache/anchors/l ]; then
  "$interpreter" scripts/bench/coordination.py --coordinator "$target/esta-coordinator" --worker "$target/esta-worker"
else
  say "no anchors at .cache/anchors: run 'make quickstart' first to measure coordination too"
fi
