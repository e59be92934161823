#!/usr/bin/env bash
# Brings the S3-speaking server of the tests into .cache/objects, in a pinned version. Nothing is installed outside of it.
set -euo pipefail
cd "$(dirname "$0")/.."

SERVER='moto[server]==5.1.22'
source scripts/common.sh
tools="$PWD/.cache/objects"

[ "$(cat "$tools/MADE.txt" 2>/dev/null)" != "$SERVER" ] || exit 0
need python3 python3
need_venv
say "bringing an S3-speaking server (once)"
mkdir -p "$tools"
python3 -m venv --clear "$tools/venv"
"$tools/venv/bin/pip" install --quiet --disable-pip-version-check "$SERVER"
echo "$SERVER" >"$tools/MADE.txt"
