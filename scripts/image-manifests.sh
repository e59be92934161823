#!/usr/bin/env bash
# A step of the Dockerfile: image-manifests.sh CHECKOUT DESTINATION copies the workspace's manifests and lock file and puts
# empty sources where cargo looks for targets, so that dependencies can be fetched and compiled before the sources come.
set -euo pipefail

checkout=$1 destination=$2

stub() { # stub FILE [TEXT]
  mkdir -p "$(dirname "$destination/$1")"
  printf '//! Stands in for the sources.\n%s\n' "${2:-}" >"$destination/$1"
}

mkdir -p "$destination"
cd "$checkout"
cp Cargo.lock "$destination/"
while read -r manifest; do
  folder=$(dirname "$manifest")
  mkdir -p "$destination/$folder"
  cp "$manifest" "$destination/$manifest"
  grep -q '^\[package\]' "$manifest" || continue
  found=no
  while read -r source; do
    case "$source" in
      */src/lib.rs) stub "$source" && found=yes ;;
      */src/main.rs | */src/bin/*) stub "$source" 'fn main() {}' && found=yes ;;
      *) stub "$source" 'fn main() {}' ;;
    esac
  done < <(find "$folder" -regextype posix-extended -regex "$folder"'/(build|src/(lib|main|bin/[^/]+)|(benches|examples|tests)/[^/]+)\.rs')
  [ $found = yes ] || stub "$folder/src/lib.rs"
done < <(find . -name Cargo.toml -not -path '*/target/*' | sort)
