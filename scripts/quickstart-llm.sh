#!/usr/bin/env bash
# From manual pages to a palette of language models: makes a tokenizer and two anchors of LLaMA's architecture on the
# pages as plain text (cached by what made them), then adapts the family to questions about pieces of pages with a
# coordinator and WORKERS workers. `make quickstart-llm` builds and fetches the pages first.
# Environment: DEVICE (cpu | cuda), WORKERS, PROFILE (cargo's), ESTA_CACHE.
set -euo pipefail

# Tokens of the vocabulary, as source.yaml has it. Steps of each anchor: a larger network has more to learn.
VOCAB=4096
STEPS_S=1000 STEPS_L=1000

cd "$(dirname "$0")/.."
source scripts/common.sh
family=configs/quickstart-llm/_base.yaml
source=configs/quickstart-llm/source.yaml
target=configs/quickstart-llm/target.yaml
pages=.cache/data/manpages
anchors=.cache/anchors-llm
run_dir=runs/quickstart-llm

default_workers() {
  if [ "$DEVICE" = cuda ]; then nvidia-smi --list-gpus | wc -l; else echo 2; fi
}

check() {
  case "$DEVICE" in cpu | cuda) ;; *) fail "DEVICE is cpu or cuda, not '$DEVICE'" ;; esac
  [ -x "$bin/esta-worker" ] && [ -x "$bin/esta-coordinator" ] ||
    fail "no binaries in $bin: run 'make quickstart-llm' or 'make build'"
  [ -e "$pages/MADE.txt" ] || fail "no pages at $pages: run scripts/fetch-manpages.sh"
}

make_tokenizer() { # its second file, tokenizer_config.json, is written last
  [ -e "$anchors/tokenizer/tokenizer_config.json" ] ||
    "$bin/esta-worker" tokenizer --texts "$pages/corpus.jsonl" --vocab-size "$VOCAB" --out "$anchors/tokenizer"
}

pretrain() { # pretrain ANCHOR STEPS
  "$bin/esta-worker" pretrain --config "$source" --anchor "$1" --steps "$2" --device "$DEVICE"
}

make_anchors() { # the larger with its progress bar, the smaller beside it
  local log small
  log=$(mktemp)
  pretrain s "$STEPS_S" >"$log" 2>&1 &
  small=$!
  # shellcheck disable=SC2064  # the process and file of this call
  trap "kill $small 2>/dev/null || true; rm -f '$log'" EXIT
  pretrain l "$STEPS_L" || fail "the larger anchor could not be made"
  wait "$small" || fail "the smaller anchor could not be made: $(tail -n 1 "$log")"
  cat "$log" >&2
  rm -f "$log"
  trap - EXIT
}

bin=$(binaries)
check
say "a tokenizer and anchors on the pages as plain text"
link_anchors "$source" "$anchors" "$VOCAB" "$STEPS_S" "$STEPS_L" "$(cat "$family" "$pages/corpus.jsonl" | sha256sum)"
make_tokenizer
make_anchors
if [ -e "$run_dir/eval.json" ] && [ -e "$run_dir/report.html" ]; then
  "$bin/esta-coordinator" palette --run-dir "$run_dir"
  say "this is the finished run in $run_dir, see its report.html; 'rm -r $run_dir' and once more to run afresh"
  exit 0
fi
say "the family on questions about the pages"
"$bin/esta-coordinator" run --config "$target" --workers "${WORKERS:-$(default_workers)}" --device "$DEVICE"
say "open $run_dir/report.html"
