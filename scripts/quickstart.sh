#!/usr/bin/env bash
# From images to a palette: pre-trains three anchors on the source domain (cached by what made them), then adapts the
# family to the target domain with a coordinator and WORKERS workers. `make quickstart` builds and fetches data first.
# Environment: DEVICE (cpu | cuda), WORKERS, PROFILE (cargo's), ESTA_CACHE.
set -euo pipefail

# Steps of each anchor: a larger network has more to learn. Threads of the largest, which outlasts the others: its sums,
# and so its bits, depend on them.
STEPS_S=1500 STEPS_M=2400 STEPS_L=4000
THREADS_L=2

cd "$(dirname "$0")/.."
source scripts/common.sh
source=configs/quickstart/source.yaml
target=configs/quickstart/target.yaml
run_dir=runs/quickstart

default_workers() {
  if [ "$DEVICE" = cuda ]; then nvidia-smi --list-gpus | wc -l; else echo 2; fi
}

check() {
  case "$DEVICE" in cpu | cuda) ;; *) fail "DEVICE is cpu or cuda, not '$DEVICE'" ;; esac
  [ -x "$bin/esta-worker" ] && [ -x "$bin/esta-coordinator" ] || fail "no binaries in $bin: run 'make quickstart' or 'make build'"
  [ -d .cache/data/fashion-mnist ] || fail "no images at .cache/data: run 'make data'"
}

pretrain() { # pretrain ANCHOR STEPS [FLAG...]
  "$bin/esta-worker" pretrain --config "$source" --anchor "$1" --steps "$2" --device "$DEVICE" "${@:3}"
}

make_anchors() { # the largest with its progress bar, the two others beside it
  local log small
  log=$(mktemp)
  { pretrain s "$STEPS_S" && pretrain m "$STEPS_M"; } >"$log" 2>&1 &
  small=$!
  # shellcheck disable=SC2064  # the process and file of this call
  trap "kill $small 2>/dev/null || true; rm -f '$log'" EXIT
  pretrain l "$STEPS_L" --set "train.intra_op_threads=$THREADS_L" || fail "the largest anchor could not be made"
  wait "$small" || fail "the smaller anchors could not be made: $(tail -n 1 "$log")"
  cat "$log" >&2
  rm -f "$log"
  trap - EXIT
}

bin=$(binaries)
check
say "anchors on the source domain"
link_anchors "$source" .cache/anchors "$STEPS_S" "$STEPS_M" "$STEPS_L" "$THREADS_L"
make_anchors
if [ -e "$run_dir/eval.json" ] && [ -e "$run_dir/report.html" ]; then
  "$bin/esta-coordinator" palette --run-dir "$run_dir"
  say "this is the finished run in $run_dir, see its report.html; 'rm -r $run_dir' and once more to run afresh"
  exit 0
fi
say "the family on the target domain"
"$bin/esta-coordinator" run --config "$target" --workers "${WORKERS:-$(default_workers)}" --device "$DEVICE"
say "open $run_dir/report.html"
