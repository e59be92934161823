#!/usr/bin/env bash
# Puts the headers of CUDA and NCCL, and nothing that needs a GPU, beside the light form of libtorch, so that the GPU path
# compiles in every test run. The full CUDA form has them already. Needs what provision-libtorch.sh installs.
set -euo pipefail

cd "$(dirname "$0")/.."
source scripts/common.sh
form=$(readlink -f .libtorch)
headers="$form/nvidia"
# What torch 2.11.0 for CUDA 13 is built with; the libraries in these wheels (950 MB) are not kept.
WHEELS=(nvidia-nccl-cu13==2.28.9 'nvidia-cublas==13.1.*' 'nvidia-cusparse==12.6.*' 'nvidia-cusolver==12.0.*'
  'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*')

if [ ! -e "$headers/nccl/include/nccl.h" ]; then
  say "downloading the headers of CUDA and NCCL (950 MB, once)"
  tmp="$headers.tmp.$$"
  mkdir -p "$tmp"
  python3 -m pip download --disable-pip-version-check --no-deps -q -d "$tmp" "${WHEELS[@]}"
  for wheel in "$tmp"/*.whl; do unzip -q -o "$wheel" 'nvidia/*/include/*' -d "$tmp"; done
  [ -s "$tmp/nvidia/nccl/include/nccl.h" ] && [ -s "$tmp/nvidia/cu13/include/cusparse.h" ] \
    || fail "the wheels did not hold nccl.h and cusparse.h"
  rm -rf "$headers" && mv "$tmp/nvidia" "$headers" && rm -rf "$tmp"
fi
