#!/usr/bin/env bash
# Puts what the tests of metrics and traces need in place: Debian's Prometheus with promtool, a collector that prints what it
# hears (rotel, below .cache/telemetry), and the chart's tools, which render its alert rules.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
source scripts/chart-tools.sh

ROTEL=rotel==0.0.1a15
folder=.cache/telemetry

need prometheus prometheus
need promtool prometheus

if [ "$(cat "$folder/MADE.txt" 2>/dev/null)" != "$ROTEL" ]; then
  need_venv
  say "bringing $ROTEL (once)"
  mkdir -p "$folder"
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$ROTEL"
  agent=$("$folder/venv/bin/python" -c 'import pathlib, rotel; print(pathlib.Path(rotel.__file__).parent / "rotel-agent")')
  ln -sfn "$agent" "$folder/rotel"
  echo "$ROTEL" >"$folder/MADE.txt"
fi

bring_chart_tools
