#!/usr/bin/env bash
# Tunes every anchor alone on the quickstart's target (the same program, data and adapters, a third of the palette's
# images each) and adds the results to the quickstart's report as stars. Runs after scripts/quickstart.sh; what is
# finished stays finished. Environment: DEVICE, PROFILE, SEED, RUN_DIR, and SET (further KEY=VALUE words for every job).
set -euo pipefail

RUN_DIR="${RUN_DIR:-runs/quickstart}"
SEED="${SEED:-0}"
ANCHORS=(s m l)

cd "$(dirname "$0")/../.."
source scripts/common.sh
coordinator="$(binaries)/esta-coordinator"

alone_dir() { echo "runs/quickstart-alone-$1-seed$SEED"; }

tune() { # tune ANCHOR
  local sets=(--set "seed=$SEED" --set "output_dir=$(alone_dir "$1")") word
  for word in ${SET:-}; do sets+=(--set "$word"); done
  "$coordinator" run --config "configs/quickstart/alone-$1.yaml" "${sets[@]}" --workers 1 --device "$DEVICE"
}

collect() { # the stars of report.html, from every run's palette
  python3 - "$RUN_DIR/baselines.json" "${ANCHORS[@]}" <<'PY'
import json, os, sys
target, seed, stars = sys.argv[1], os.environ["SEED"], []
for place, name in enumerate(sys.argv[2:]):
    with open(f"runs/quickstart-alone-{name}-seed{seed}/palette.json") as file:
        choice = json.load(file)["palettes"][0]["choices"][0]
    stars.append({"name": f"anchor {name} alone (LoRA)", "anchor": place, "macs": choice["macs"], "accuracy": choice["accuracy"]})
    print(f"{name}: {choice['macs']:>10} MACs, {100 * choice['accuracy']:.2f} %")
with open(target, "w") as file:
    json.dump(stars, file, indent=2)
PY
}

[ -x "$coordinator" ] || fail "no $coordinator: run 'make build'"
[ -e "$RUN_DIR/palette.json" ] || fail "no finished run in $RUN_DIR: run 'make quickstart' first"
for anchor in "${ANCHORS[@]}"; do
  say "anchor $anchor alone"
  tune "$anchor"
done
export SEED
collect
"$coordinator" report --run-dir "$RUN_DIR"
say "stars added to $RUN_DIR/report.html"
