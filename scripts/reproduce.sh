#!/usr/bin/env bash
# The study of the paper's claims, resumable at any moment. Without TASK: on small families that are pre-trained here, with
# a day of CPU at most. With TASK (cars, cub200, dtd, ...; any file of configs/vision), DATA (the folder that holds the
# data sets as that file names them) and WEIGHTS (the folder that holds timm's vit_*_patch16_224.augreg_in21k): on
# ViT-Ti/S/B. `make reproduce` builds first.
# Environment: DEVICE (cpu | cuda), JOBS (cells at a time), SEEDS (how many), ONLY (parts of cells' names), PROFILE, ESTA_CACHE.
set -euo pipefail

DEVICE="${DEVICE:-cpu}"
PROFILE="${PROFILE:-release}"
TASK="${TASK:-}"
# Steps of each anchor: a larger network has more to learn.
STEPS_S=1500 STEPS_M=2400 STEPS_L=3600

cd "$(dirname "$0")/.."
cache="${ESTA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/esta}"
source=configs/study/source.yaml

say() { printf 'reproduce: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

binaries() { # the folder cargo puts this profile's binaries in; `dev` builds into debug
  local folder=$PROFILE
  [ "$PROFILE" != dev ] || folder=debug
  echo "${CARGO_TARGET_DIR:-target}/$folder"
}

link() { # link TARGET NAME: a link in the checkout, never over a folder of the user's
  if [ -e "$2" ] && [ ! -L "$2" ]; then fail "$2 is in the way: it should be a link to $1"; fi
  ln -sfn "$(realpath "$1")" "$2"
}

anchors() { # anchors live in the cache, under a name that says how they were made
  local key
  key=$(cat "$source" <(echo "$STEPS_S $STEPS_M $STEPS_L $DEVICE") | sha256sum | cut -c1-16)
  mkdir -p "$cache/anchors/$key" .cache
  link "$cache/anchors/$key" .cache/study-anchors
  say "anchors on the source domain (once)"
  local step
  for step in "s $STEPS_S" "m $STEPS_M" "l $STEPS_L"; do
    "$bin/esta-worker" pretrain --config "$source" --anchor "${step% *}" --steps "${step#* }" --device "$DEVICE"
  done
}

task_file() { # the one file of configs/vision whose name contains TASK
  local files=(configs/vision/[!_]*"$TASK"*.yaml)
  [ -e "${files[0]}" ] || fail "TASK=$TASK: no such file in configs/vision; there are $(cd configs/vision && echo [!_]*.yaml)"
  [ "${#files[@]}" = 1 ] || fail "TASK=$TASK names several: ${files[*]}"
  echo "${files[0]}"
}

bin=$(binaries)
[ -x "$bin/esta-worker" ] || fail "no binaries in $bin: run 'make reproduce' or 'make build'"
args=(--device "$DEVICE")
[ -z "${JOBS:-}" ] || args+=(--jobs "$JOBS")
[ -z "${SEEDS:-}" ] || args+=(--seeds "$SEEDS")
[ -z "${ONLY:-}" ] || args+=(--only "$ONLY")
if [ -z "$TASK" ]; then
  ./scripts/fetch-data.sh
  ./scripts/fetch-glyphs.sh
  anchors
  args+=(--study configs/studies/offline.yaml)
else
  file=$(task_file)
  [ -d "${DATA:-}" ] || fail "DATA=${DATA:-}: no such folder; give the one that holds what $file names below data/"
  [ -d "${WEIGHTS:-}" ] || fail "WEIGHTS=${WEIGHTS:-}: no such folder; give the one that holds timm's vit_tiny_patch16_224.augreg_in21k and so on"
  link "$DATA" data
  link "$WEIGHTS" weights
  args+=(--study configs/studies/vision.yaml --target "$file" --out "runs/reproduce-$(basename "$file" .yaml)")
fi
exec "$bin/esta-worker" ablate "${args[@]}"
