#!/usr/bin/env bash
# Measures a worker's step against the same step in plain PyTorch, a LoRA step against transformers and peft, and what ESTA
# costs in time, bytes and memory; prints one table. Arguments go to scripts/bench/bench.py, such as `--only step --rounds 3`
# or `--only soak`, which takes long.
# Wants a quiet machine. Rows of a real run need the anchors of `make quickstart`.
# Environment: DEVICE (cpu | cuda), PROFILE (cargo's), BENCH_PYTHON (with PyTorch, transformers and peft; one is made in the
# cache when absent).
set -euo pipefail

cd "$(dirname "$0")/.."
source scripts/common.sh

build() {
  local cuda=()
  [ "$DEVICE" != cuda ] || cuda=(--features esta-worker/cuda)
  cargo build --profile "$PROFILE" -p esta-engine --example bench_law
  cargo build --profile "$PROFILE" -p esta-worker --example bench_step "${cuda[@]}"
  cargo build --profile "$PROFILE" -p esta-tests --bin esta-trials -p esta-sim --bin esta-sim
  cargo build --profile "$PROFILE" -p esta-coordinator -p esta-load -p esta-worker "${cuda[@]}"
}

# Some rows are measured on a real etcd of their own.
need etcd etcd-server

interpreter="${BENCH_PYTHON:-$(./scripts/torch-python.sh transformers==5.24.0 peft==0.21.2)}"
build
./scripts/fetch-manpages.sh
pages=.cache/data/manpages/corpus.jsonl tokenizer=.cache/bench-tokenizer
[ -e "$tokenizer/tokenizer_config.json" ] || "$(binaries)/esta-worker" tokenizer --texts "$pages" --out "$tokenizer"
"$interpreter" scripts/bench/bench.py --programs "$(binaries)" --digits .cache/data/digits/digits.csv.gz \
  --texts "$pages" --tokenizer "$tokenizer" --device "$DEVICE" "$@"
