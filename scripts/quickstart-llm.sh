#!/usr/bin/env bash
# From manual pages to a palette of language models: makes a tokenizer and two anchors of LLaMA's architecture on the
# pages as plain text (cached by what made them), then adapts the family to questions about pieces of pages with a
# coordinator and WORKERS workers. `make quickstart-llm` builds and fetches the pages first.
# Environment: DEVICE (cpu | cuda), WORKERS, PROFILE (cargo's), ESTA_CACHE, and SEED: other anchors and another run, in a folder
# of its own.
set -euo pipefail

# Tokens of the vocabulary, as source.yaml has it. Steps of each anchor, in proportion to its size, a quarter of a token per
# parameter: after as many steps for both the large one would be no better, since what they learn is bounded by the steps.
VOCAB=4096
STEPS_S=450 STEPS_L=1000

cd "$(dirname "$0")/.."
source scripts/common.sh
source scripts/adapt.sh
family=configs/quickstart-llm/_base.yaml
source=configs/quickstart-llm/source.yaml
pages=.cache/data/manpages
anchors=.cache/anchors-llm

make_tokenizer() { # its second file, tokenizer_config.json, is written last
  [ -e "$anchors/tokenizer/tokenizer_config.json" ] ||
    "$bin/esta-worker" tokenizer --texts "$pages/corpus.jsonl" --vocab-size "$VOCAB" --out "$anchors/tokenizer"
}

seeded=(${SEED:+--set "seed=$SEED"})
run_dir="runs/quickstart-llm${SEED:+-seed$SEED}"

small_anchor() { pretrain "$source" s "$STEPS_S" "${seeded[@]}"; }
large_anchor() { pretrain "$source" l "$STEPS_L" "${seeded[@]}"; }

check_programs quickstart-llm
[ -e "$pages/MADE.txt" ] || fail "no pages at $pages: run scripts/fetch-manpages.sh"
say "a tokenizer and anchors on the pages as plain text"
link_anchors "$source" "$anchors" "$VOCAB" "$STEPS_S" "$STEPS_L" ${SEED:+"seed $SEED"} "$(cat "$family" "$pages/corpus.jsonl" | sha256sum)"
make_tokenizer
make_both large_anchor small_anchor
adapt configs/quickstart-llm/target.yaml "$run_dir" "the family on questions about the pages" \
  --set "output_dir=$run_dir" "${seeded[@]}"
