#!/usr/bin/env bash
# Says as JSON what the Helm chart would start with some values: commands, variables, files and probes. For its arguments see
# tests/chart/rendered.py: chart-rendered.sh charts/esta/ci/cpu-trial-values.yaml --root /tmp/pod
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/chart-tools.sh"
bring_chart_tools

exec "$tools/venv/bin/python" "$root/tests/chart/rendered.py" "$@"
