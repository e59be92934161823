#!/usr/bin/env bash
# A step of the Dockerfile: image-libtorch.sh DESTINATION copies the libraries that the worker in DESTINATION/bin loads from
# $LIBTORCH to where they look for each other: torch/lib, nvidia/*/lib. Python, headers and what nothing asks for stay behind.
set -euo pipefail

destination=$1
# What libtorch opens by name when it is first used: linear algebra, compiling kernels, the parts of cuDNN.
OPENED=('libtorch_cuda_linalg.so' 'libcaffe2_nvrtc.so' 'libnvrtc-builtins.so.*' 'libcudnn_*.so.*')

needed() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }

take() { # take PATTERN: copies these libraries and all they need; the system's own are not in $LIBTORCH
  local library target name
  # shellcheck disable=SC2231 # a pattern
  for library in "$LIBTORCH"/lib/$1 "$LIBTORCH"/nvidia/*/lib/$1; do
    [ -f "$library" ] || continue
    target=$destination/${library#"$LIBTORCH"/}
    target=${target/#"$destination"\/lib\//"$destination"/torch/lib/}
    [ ! -e "$target" ] || continue
    install -D -m 755 "$(readlink -f "$library")" "$target"
    for name in $(needed "$library"); do take "$name"; done
  done
}

for name in $(needed "$destination/bin/esta-worker"); do take "$name"; done
for pattern in "${OPENED[@]}"; do take "$pattern"; done

if ldd "$destination/bin/esta-worker" | grep 'not found'; then
  echo "image-libtorch: the worker would not start" >&2
  exit 1
fi
find "$destination" -type f -printf '%s %P\n' | sort -rn | numfmt --to=si
