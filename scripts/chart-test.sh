#!/usr/bin/env bash
# Tests the Helm chart: both engines of Helm, strict Kubernetes schemas, promtool; no cluster is needed. The last lines are what
# was validated. Arguments go to unittest: chart-test.sh test_upgrades
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/chart-tools.sh"
bring_chart_tools

cd "$root/tests/chart"
if [ $# -gt 0 ]; then
  exec "$tools/venv/bin/python" -m unittest "$@"
fi
"$tools/venv/bin/python" -m unittest
exec "$tools/venv/bin/python" matrix.py
