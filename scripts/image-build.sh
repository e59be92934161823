#!/usr/bin/env bash
# Builds a target of the Dockerfile where no Docker engine runs and no registry is reached: image-build.sh [TARGET], by default
# coordinator. Needs root. buildah carries out the steps in clean roots; the base images are made here, under the names
# that the Dockerfile asks for: Debian's from its packages, Rust's from that and the toolchain of this machine. Images, layers and
# bases stay in .cache/image/storage, apart from all others. How cargo, pip and apt reach their registries is taken over from whoever
# calls this, for the steps alone (empty files in the images show where it was mounted). Environment: DEBIAN_MIRROR, CARGO_BUILD_JOBS, STORAGE_DRIVER.
set -euo pipefail

cd "$(dirname "$0")/.."
source scripts/common.sh
target=${1:-coordinator}
home=$PWD/.cache/image
client=$home/client

[ "$(id -u)" = 0 ] || fail "clean roots need root"
need buildah buildah
need mmdebstrap mmdebstrap

build() { buildah --root "$home/storage" --runroot "$home/storage-run" "$@"; }

base_image() { # base_image ARGUMENT: the Dockerfile's default
  sed -n "s/^ARG $1=//p" Dockerfile
}

choose_storage_driver() { # layers cost nothing with overlay; where it cannot be mounted, vfs copies them
  [ -z "${STORAGE_DRIVER:-}" ] || return 0
  local probe
  probe=$(mktemp -d -p "$home")
  mkdir "$probe"/{lower,upper,work,merged}
  export STORAGE_DRIVER=vfs
  if unshare --mount mount -t overlay overlay -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" "$probe/merged" 2>/dev/null; then
    STORAGE_DRIVER=overlay
  fi
  rm -rf "$probe"
}

make_debian() { # make_debian IMAGE SUITE: as much as Debian's own slim image holds
  local container files=$home/debian.tar
  say "making $1 from Debian's packages"
  # shellcheck disable=SC2016 # the hook fills it in
  mmdebstrap --quiet --variant=minbase --aptopt="$client/apt.conf" --aptopt="Acquire::https::CaInfo \"$client/ca.pem\"" \
    --customize-hook='rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    "$2" "$files" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
  container=$(build from scratch)
  build add -q "$container" "$files" / >/dev/null
  build config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd bash "$container"
  build commit -q --rm "$container" "$1" >/dev/null
  rm "$files"
}

make_rust() { # make_rust IMAGE VERSION DEBIAN: cargo and rustc where Rust's own image has them
  local container toolchain
  toolchain=$(rustc "+$2" --print sysroot 2>/dev/null || rustc --print sysroot)
  [ "$("$toolchain/bin/rustc" --version | cut -d' ' -f2)" = "$2" ] || fail "this machine has no Rust $2"
  say "making $1 from Debian's packages and $toolchain"
  container=$(build from --pull-never "$3")
  build run --isolation chroot "${volumes[@]}" "$container" -- sh -euc \
    'export DEBIAN_FRONTEND=noninteractive
     apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates gcc libc6-dev >/dev/null
     rm -rf /var/lib/apt/lists/*; mkdir -p /usr/local/cargo/bin'
  tar -C "$toolchain" --exclude=lib/rustlib/src --exclude=lib/rustlib/rustc-src -c bin/cargo bin/rustc lib \
    | tar -x -C "$(build mount "$container")/usr/local/cargo"
  build unmount "$container" >/dev/null
  build config --env CARGO_HOME=/usr/local/cargo --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --env RUST_VERSION="$2" "$container"
  build commit -q --rm "$container" "$1" >/dev/null
}

debian=$(base_image DEBIAN_IMAGE) rust=$(base_image RUST_IMAGE)
suite=${rust##*-} rust_version=$(cut -d: -f2 <<<"$rust" | cut -d- -f1)
mkdir -p "$home"
choose_storage_driver
python3 tests/image/client.py "$client"
volumes=(--volume "$client/apt.conf:/etc/apt/apt.conf.d/99client:ro" --volume "$client:/run/client:ro")
build inspect --type image "$debian" >/dev/null 2>&1 || make_debian "$debian" "$suite"
build inspect --type image "$rust" >/dev/null 2>&1 || make_rust "$rust" "$rust_version" "$debian"
volumes+=(--volume "$client/pip.conf:/etc/pip.conf:ro" --volume "$client/cargo.toml:/usr/local/cargo/config.toml:ro")

say "carrying out the steps of $target"
build build --isolation chroot --layers --force-rm --pull-never --format docker --target "$target" --tag "localhost/esta-$target" "${volumes[@]}" \
  ${CARGO_BUILD_JOBS:+--build-arg "CARGO_BUILD_JOBS=$CARGO_BUILD_JOBS"} \
  --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
  --build-arg "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)" .
