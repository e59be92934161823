#!/usr/bin/env bash
# Prints the path of a Python with PyTorch 2.11.0 and the packages named as arguments, in a virtual environment kept in the
# cache; makes it first where it is absent. Its libraries are also the CUDA form of libtorch.
set -euo pipefail

TORCH_VERSION=2.11.0
source "$(dirname "$0")/common.sh"
venv="$cache/venv-torch-$TORCH_VERSION"

install() { # install REQUIREMENT...: once each
  local missing=() mark
  for requirement in "$@"; do
    mark="$venv/installed/${requirement%%[=<>!]*}"
    [ -e "$mark" ] || missing+=("$requirement")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]} into $venv"
  "$venv/bin/python" -m pip install --disable-pip-version-check -q "torch==$TORCH_VERSION" "${missing[@]}" >&2
  mkdir -p "$venv/installed"
  for requirement in "${missing[@]}"; do touch "$venv/installed/${requirement%%[=<>!]*}"; done
}

mkdir -p "$cache"
if [ ! -x "$venv/bin/python" ]; then
  need_venv
  say "PyTorch with CUDA takes 4.7 GB, once"
  python3 -m venv "$venv"
fi
install "torch==$TORCH_VERSION" "$@"
echo "$venv/bin/python"
