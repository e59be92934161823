#!/usr/bin/env bash
# Builds images without an engine (scripts/image-build.sh) and starts what is in them: image-check.sh [TARGET...], by default
# coordinator. As the image's user, with a read-only root and one folder to write to; two targets run a small job together. Ends
# with what the images are made of. Needs root.
set -euo pipefail

cd "$(dirname "$0")/.."
source scripts/common.sh
home=$PWD/.cache/image
[ $# -gt 0 ] || set -- coordinator

./scripts/image-lint.sh
need readelf binutils
need etcd etcd-server
containers=()

build() { buildah --root "$home/storage" --runroot "$home/storage-run" "$@"; }

clean() {
  local container
  for container in "${containers[@]}"; do build rm "$container" >/dev/null; done
}
trap clean EXIT

for target in "$@"; do
  ./scripts/image-build.sh "$target"
  container=$(build from --pull-never "localhost/esta-$target")
  containers+=("$container")
  root=$(build mount "$container")
  build inspect --type image "localhost/esta-$target" \
    | python3 -c 'import json, sys; json.dump(json.load(sys.stdin)["Docker"]["config"], sys.stdout)' >"$home/$target.json"
  export "ESTA_IMAGE_$(tr 'a-z-' 'A-Z_' <<<"$target")=$root:$home/$target.json"
done

python3 -m unittest discover -v -s tests/image -p 'test_root.py'

for target in "$@"; do
  variable=ESTA_IMAGE_$(tr 'a-z-' 'A-Z_' <<<"$target")
  root=${!variable%%:*}
  say "$target: $(du -sx --apparent-size --block-size=1M "$root" | cut -f1) MiB, the largest of it:"
  (cd "$root" && find . -xdev -type f -printf '%s %P\n' | sort -rn | sed -n 1,12p | numfmt --to=iec) >&2
done
