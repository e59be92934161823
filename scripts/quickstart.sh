#!/usr/bin/env bash
# From images to a palette: pre-trains three anchors on the source domain (cached by what made them), then adapts the
# family to the target domain with a coordinator and WORKERS workers. `make quickstart` builds and fetches data first.
# Environment: DEVICE (cpu | cuda), WORKERS, PROFILE (cargo's), ESTA_CACHE, and SEED (default 0): another run over the same
# anchors, in a folder of its own.
set -euo pipefail

# Steps of each anchor: a larger network has more to learn. Threads of the largest, which outlasts the others: its sums,
# and so its bits, depend on them.
STEPS_S=1500 STEPS_M=2400 STEPS_L=4000
THREADS_L=2

cd "$(dirname "$0")/.."
source scripts/common.sh
source scripts/adapt.sh
source=configs/quickstart/source.yaml

SEED=${SEED:-0}
run_dir=runs/quickstart
[ "$SEED" = 0 ] || run_dir+="-seed$SEED"

small_anchors() { pretrain "$source" s "$STEPS_S" && pretrain "$source" m "$STEPS_M"; }
large_anchor() { pretrain "$source" l "$STEPS_L" --set "train.intra_op_threads=$THREADS_L"; }

check_programs quickstart
[ -d .cache/data/fashion-mnist ] || fail "no images at .cache/data: run 'make data'"
say "anchors on the source domain"
link_anchors "$source" .cache/anchors "$STEPS_S" "$STEPS_M" "$STEPS_L" "$THREADS_L"
make_both large_anchor small_anchors
adapt configs/quickstart/target.yaml "$run_dir" "the family on the target domain" --set "output_dir=$run_dir" --set "seed=$SEED"
