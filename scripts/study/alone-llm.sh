#!/usr/bin/env bash
# Tunes both anchors of the language quickstart alone (the same program, texts and adapters, half of the palette's texts each)
# and adds the results to the quickstart's report as stars. Runs after scripts/quickstart-llm.sh; what is finished stays
# finished. Environment: DEVICE, PROFILE, SEED, RUN_DIR, and SET (further KEY=VALUE words for every job).
set -euo pipefail

RUN_DIR="${RUN_DIR:-runs/quickstart-llm}"
SEED="${SEED:-0}"

cd "$(dirname "$0")/../.."
source scripts/common.sh
coordinator="$(binaries)/esta-coordinator"
alone_dir="runs/quickstart-llm-alone-seed$SEED"

collect() { # the stars of report.html: held-out loss and exact match of both anchors
  python3 - "$RUN_DIR/baselines.json" "$alone_dir" "$RUN_DIR" <<'PY'
import json, sys
target, alone, run = sys.argv[1:]
read = lambda folder, name: json.load(open(f"{folder}/{name}"))
names = [anchor["name"] for anchor in read(alone, "job.json")["family"]["anchors"]]
choices = {choice["stitch"]: choice for palette in read(alone, "palette.json")["palettes"] for choice in palette["choices"]}
ours = {result["stitch"]: result for result in read(run, "eval.json")["results"]}
stars = []
for result in read(alone, "eval.json")["results"]:
    place, choice = result["stitch"], choices[result["stitch"]]
    stars.append({
        "name": f"anchor {names[place]} alone (LoRA)", "anchor": place, "macs": choice["macs"], "params": choice["params"],
        "accuracy": result["accuracy"], "loss": result["loss"],
    })
    here = ours[place]
    print(f"{names[place]}: {choice['params']:>9} parameters, loss {result['loss']:.4f} alone, {here['loss']:.4f} in the palette; "
          f"exact match {100 * result['accuracy']:.2f} % alone, {100 * here['accuracy']:.2f} % in the palette")
with open(target, "w") as file:
    json.dump(stars, file, indent=2)
PY
}

[ -x "$coordinator" ] || fail "no $coordinator: run 'make build'"
[ -e "$RUN_DIR/eval.json" ] || fail "no finished run in $RUN_DIR: run 'make quickstart-llm' first"
sets=(--set "seed=$SEED" --set "output_dir=$alone_dir")
for word in ${SET:-}; do sets+=(--set "$word"); done
if [ ! -e "$alone_dir/eval.json" ]; then
  say "both anchors alone"
  "$coordinator" run --config configs/quickstart-llm/alone.yaml "${sets[@]}" --workers 2 --device "$DEVICE"
fi
collect
"$coordinator" report --run-dir "$RUN_DIR"
say "stars added to $RUN_DIR/report.html"
