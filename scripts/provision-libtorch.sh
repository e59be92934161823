#!/usr/bin/env bash
# Puts libtorch under .libtorch, where .cargo/config.toml points: the light CPU form (no CUDA download) by default,
# the full CUDA form with DEVICE=cuda. Finished work is kept in the cache and reused by every checkout.
set -euo pipefail

TORCH_VERSION=2.11.0
cd "$(dirname "$0")/.."
root=$PWD
source scripts/common.sh
form="$cache/libtorch-$TORCH_VERSION-$DEVICE"

wheels() { # wheels FOLDER REQUIREMENT...
  python3 -m pip download --disable-pip-version-check --no-deps -q -d "$@"
}

make_cpu_form() {
  local tmp="$form.tmp.$$"
  rm -rf "$tmp" && mkdir -p "$tmp/wheels" "$tmp/unpacked" "$tmp/form/lib"
  say "downloading torch $TORCH_VERSION (530 MB, once)"
  wheels "$tmp/wheels" "torch==$TORCH_VERSION" 'nvidia-cuda-cupti==13.0.*' 'nvidia-cuda-runtime==13.0.*'
  # libtorch_cpu.so needs these two at load time; libtorch_cuda.so (the large one) stays in the wheel.
  for w in "$tmp"/wheels/torch-*.whl; do
    unzip -q "$w" 'torch/include/*' torch/lib/libtorch_cpu.so torch/lib/libc10.so torch/lib/libgomp.so.1 torch/version.py \
      -d "$tmp/unpacked"
  done
  for w in "$tmp"/wheels/nvidia_*.whl; do unzip -q "$w" '*libcupti.so.13' -d "$tmp/unpacked" 2>/dev/null \
    || unzip -q "$w" '*libcudart.so.13' -d "$tmp/unpacked"; done
  mv "$tmp/unpacked/torch/include" "$tmp/form/include"
  mv "$tmp"/unpacked/torch/lib/* "$tmp/form/lib/"
  find "$tmp/unpacked" -name 'lib*.so.13' -exec mv {} "$tmp/form/lib/" \;
  # The wheel's own libtorch.so pulls in CUDA; torch-sys only needs the name to exist.
  echo '' | gcc -shared -x c - -o "$tmp/form/lib/libtorch.so"
  echo "$TORCH_VERSION" >"$tmp/form/build-version"
  for lib in libtorch_cpu.so libc10.so libgomp.so.1 libcupti.so.13 libcudart.so.13; do
    [ -s "$tmp/form/lib/$lib" ] || { say "the wheels did not hold $lib"; exit 1; }
  done
  rm -rf "$form" && mv "$tmp/form" "$form" && rm -rf "$tmp"
}

make_cuda_form() {
  local tmp="$form.tmp.$$" python site
  python=$(./scripts/torch-python.sh 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*')
  site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  rm -rf "$tmp" && mkdir -p "$tmp"
  ln -s "$site/torch/include" "$tmp/include"
  ln -s "$site/torch/lib" "$tmp/lib"
  ln -s "$site/nvidia" "$tmp/nvidia"
  echo "$TORCH_VERSION" >"$tmp/build-version"
  rm -rf "$form" && mv "$tmp" "$form"
}

need python3 python3 python3-venv
python3 -m pip --version >/dev/null 2>&1 || install_debian python3-pip python3-venv
need g++ g++
need unzip unzip
need make make
need ld.lld lld
[ -e /usr/include/gloo/context.h ] || install_debian libgloo-dev
[ -e /usr/include/google/protobuf/empty.proto ] && command -v protoc >/dev/null || install_debian protobuf-compiler libprotobuf-dev

mkdir -p "$cache"
if [ ! -e "$form/build-version" ]; then
  case "$DEVICE" in
    cpu) make_cpu_form ;;
    cuda) make_cuda_form ;;
    *) say "DEVICE is cpu or cuda, not '$DEVICE'"; exit 2 ;;
  esac
fi
ln -sfn "$form" "$root/.libtorch"
say "libtorch $TORCH_VERSION ($DEVICE) at .libtorch"
