#!/usr/bin/env bash
# The quickstart's training twice, in peace and with a worker killed every EVERY seconds: both have to end with the same
# table and adapters, bit for bit. `make quickstart` makes the anchors before. Environment: EVERY, WORKERS, CONFIG, PROFILE.
set -euo pipefail

EVERY="${EVERY:-4}"
WORKERS="${WORKERS:-2}"
CONFIG="${CONFIG:-configs/quickstart/target.yaml}"
FOLDER=runs/soak

cd "$(dirname "$0")/.."
source scripts/common.sh
[ -e .cache/anchors/l ] || [ "$CONFIG" != configs/quickstart/target.yaml ] || fail "no anchors: run 'make quickstart' first"
cargo build --profile "$PROFILE" -p esta-tests --bin esta-trials
rm -rf "$FOLDER"
"$(binaries)/esta-trials" soak --config "$CONFIG" --folder "$FOLDER" --workers "$WORKERS" --every "$EVERY"
