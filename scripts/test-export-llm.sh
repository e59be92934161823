#!/usr/bin/env bash
# Exported language models against transformers and peft: first the modelling file against a reference in Python, then
# what the program writes (stitches, lone anchors, adapters, filled-up heads, bundles), with its expected logits and text.
# `test-export-llm.sh lm_eval` also runs that tool on a stitch.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=(transformers==5.24.0 peft==0.21.2 safetensors accelerate numpy)
[ "${1:-}" != lm_eval ] || requirements+=(lm_eval==0.4.13)
python=$(./scripts/torch-python.sh "${requirements[@]}")
made="$PWD/target/export-llm-made" golden="$PWD/target/export-llm-golden"

"$python" worker/tests/make_llm_export.py "$made"
"$python" worker/tests/check_llm_export.py "$made"

ESTA_EXPORT_LLM_GOLDEN="$golden" cargo test --workspace --test export_llm golden
"$python" worker/tests/check_llm_export.py "$golden"

if [ "${1:-}" = lm_eval ]; then
  stitch=$(for folder in "$golden"/* "$made"/*; do
    if [ -e "$folder/tokenizer.json" ] && [ -e "$folder/modeling_stitched.py" ]; then echo "$folder"; break; fi
  done)
  home=$(mktemp -d)
  trap 'rm -rf "$home"' EXIT
  export HF_HOME="$home" HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
  (cd worker/tests/lm_eval && "$(dirname "$python")/lm_eval" --model hf \
    --model_args "pretrained=$stitch,trust_remote_code=True,dtype=float32" --device cpu --batch_size 4 \
    --include_path . --tasks esta_choice,esta_exact)
fi
