#!/usr/bin/env bash
# Puts what the page's tests need in place: Debian's Chromium, Node.js and tests/page/node_modules.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/common.sh

need node nodejs
need npm npm
need chromium chromium
wanted=$(node -p 'require("./tests/page/package.json").devDependencies["playwright-core"]')
found=$(node -p 'require("./tests/page/node_modules/playwright-core/package.json").version' 2>/dev/null || true)
[ "$found" = "$wanted" ] || npm ci --prefix tests/page --ignore-scripts --no-audit --no-fund --loglevel=error >&2
