#!/usr/bin/env bash
# Brings real images into the cache and links them at .cache/data: Debian's Fashion-MNIST package (70,000 images, 28x28)
# and the handwritten digits of the scikit-learn wheel (1,797 images, 8x8). No root needed where apt knows the package
# and python3, pip and unzip are there. Every file is checked against its sum; what is there and right is left alone.
set -euo pipefail

SCIKIT_LEARN_VERSION=1.7.2
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/common.sh"
data="$cache/data"

sums_of_fashion_mnist() {
  cat <<'SUMS'
cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa  t10k-images-idx3-ubyte.gz
8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05  t10k-labels-idx1-ubyte.gz
b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7  train-images-idx3-ubyte.gz
0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056  train-labels-idx1-ubyte.gz
SUMS
}

sums_of_digits() {
  cat <<'SUMS'
09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22  digits.csv.gz
SUMS
}

good() { # good NAME: every file of the set is in the cache and has its sum
  [ -d "$data/$1" ] && (cd "$data/$1" && "sums_of_${1//-/_}" | sha256sum --check --status 2>/dev/null)
}

install_set() { # install_set NAME FOLDER: check the fetched files, then let them appear in the cache in one move
  (cd "$2" && "sums_of_${1//-/_}" | sha256sum --check --quiet) >&2 || fail "the files of $1 are not the expected ones"
  rm -rf "${data:?}/$1.old"
  [ ! -e "$data/$1" ] || mv "$data/$1" "$data/$1.old"
  mv "$2" "$data/$1"
  rm -rf "$data/$1.old"
}

fetch_fashion_mnist() { # fetch_fashion_mnist FOLDER
  need apt-get apt
  say "downloading Fashion-MNIST (31 MB, once)"
  # _apt, apt's own user, cannot write into this folder; apt then downloads as us and says so.
  if ! (cd "$1" && apt-get download -qq dataset-fashion-mnist 2>apt.log); then
    say "apt does not know the package yet; updating its lists"
    as_root apt-get update -qq
    (cd "$1" && apt-get download -qq dataset-fashion-mnist 2>apt.log) || fail "apt-get download: $(cat "$1/apt.log")"
  fi
  dpkg -x "$1"/dataset-fashion-mnist_*.deb "$1/unpacked"
  mv "$1/unpacked/usr/share/datasets/fashion-mnist" "$1/files"
}

fetch_digits() { # fetch_digits FOLDER
  need python3 python3 python3-venv
  python3 -m pip --version >/dev/null 2>&1 || install_debian python3-pip
  need unzip unzip
  say "downloading the digits of scikit-learn $SCIKIT_LEARN_VERSION (10 MB, once)"
  python3 -m pip download --disable-pip-version-check --no-deps -q --only-binary :all: --python-version 3.12 \
    -d "$1" "scikit-learn==$SCIKIT_LEARN_VERSION" || fail "pip could not download scikit-learn $SCIKIT_LEARN_VERSION"
  unzip -q -j "$1"/scikit_learn-*.whl sklearn/datasets/data/digits.csv.gz -d "$1/files"
}

bring() { # bring NAME
  if good "$1"; then return; fi
  local tmp
  tmp=$(mktemp -d "$data/$1.tmp.XXXXXX")
  # shellcheck disable=SC2064  # the folder of this call
  trap "rm -rf '$tmp'" EXIT
  "fetch_${1//-/_}" "$tmp"
  install_set "$1" "$tmp/files"
  rm -rf "$tmp"
  trap - EXIT
}

need sha256sum coreutils
mkdir -p "$data" "$root/.cache"
bring fashion-mnist
bring digits
if [ -e "$root/.cache/data" ] && [ ! -L "$root/.cache/data" ]; then
  fail ".cache/data is in the way: it should be a link to $data"
fi
ln -sfn "$data" "$root/.cache/data"
say "Fashion-MNIST and digits at .cache/data"
