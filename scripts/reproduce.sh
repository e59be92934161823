#!/usr/bin/env bash
# The study of the paper's claims, resumable at any moment. Without TASK: on small families that are pre-trained here, with
# a day of CPU at most. With TASK (cars, cub200, dtd, ...; any file of configs/vision), DATA (the folder that holds the
# data sets as that file names them) and WEIGHTS (the folder that holds timm's vit_*_patch16_224.augreg_in21k): on
# ViT-Ti/S/B. `make reproduce` builds first.
# Environment: STUDY (offline | equal-time, without TASK: which file of configs/studies), DEVICE (cpu | cuda), JOBS (cells at a
# time), WORKERS (of every cell; on cuda one takes one GPU, so that DEVICE=cuda WORKERS=4 spreads the slots of a step over four),
# SEEDS (how many), ONLY (parts of cells' names), SET (settings laid over every job, separated by spaces and without any inside),
# PROFILE, ESTA_CACHE.
set -euo pipefail

TASK="${TASK:-}"
STUDY="${STUDY:-offline}"
# Steps of each anchor: a larger network has more to learn.
STEPS_S=4000 STEPS_M=6000 STEPS_L=8000

cd "$(dirname "$0")/.."
source scripts/common.sh
source=configs/study/source.yaml

anchors() { # makes what is missing of the study's family
  say "anchors on the source domain (once)"
  link_anchors "$source" .cache/study-anchors "$STEPS_S" "$STEPS_M" "$STEPS_L"
  # The largest takes as long as the others together, and each is one thread's work.
  (anchor l "$STEPS_L") &
  largest=$!
  trap 'kill "$largest" 2>/dev/null || true' EXIT
  (anchor s "$STEPS_S") && (anchor m "$STEPS_M") || fail "the anchors were not made"
  wait "$largest" || fail "the anchor l was not made"
  trap - EXIT
}

anchor() { # anchor NAME STEPS, in a shell of its own, whose process it becomes
  exec "$bin/esta-worker" pretrain --config "$source" --anchor "$1" --steps "$2" --device "$DEVICE"
}

task_file() { # the file of configs/vision called TASK, or the one whose name contains it
  local files=() file
  for file in configs/vision/*.yaml; do
    case "$(basename "$file" .yaml)" in
      _*) ;;
      "$TASK") echo "$file"; return ;;
      *"$TASK"*) files+=("$file") ;;
    esac
  done
  case "${#files[@]}" in
    1) echo "${files[0]}" ;;
    0) fail "TASK=$TASK: no such file in configs/vision" ;;
    *) fail "TASK=$TASK names several: ${files[*]}" ;;
  esac
}

study=configs/studies/$STUDY.yaml
out=reproduce
[ "$STUDY" = offline ] || out=$STUDY
if [ -n "$TASK" ] && [ "$STUDY" != offline ]; then fail "STUDY=$STUDY is for the small families: leave out TASK"; fi
[ -f "$study" ] || fail "STUDY=$STUDY: there is no $study"
bin=$(binaries)
[ -x "$bin/esta-worker" ] || fail "no binaries in $bin: run 'make reproduce' or 'make build'"
args=(--device "$DEVICE")
[ -z "${JOBS:-}" ] || args+=(--jobs "$JOBS")
[ -z "${WORKERS:-}" ] || args+=(--workers "$WORKERS")
[ -z "${SEEDS:-}" ] || args+=(--seeds "$SEEDS")
[ -z "${ONLY:-}" ] || args+=("--only=$ONLY")
for setting in ${SET:-}; do args+=("--set=$setting"); done
# Other settings are another study: it must not clear away what this one came to.
suffix=${SET:+-$(printf %s "${SET:-}" | sha256sum | cut -c1-8)}
if [ -z "$TASK" ]; then
  ./scripts/fetch-data.sh
  ./scripts/fetch-glyphs.sh
  anchors
  args+=(--study "$study" --out "runs/$out$suffix")
else
  file=$(task_file)
  [ -d "${DATA:-}" ] || fail "DATA=${DATA:-}: no such folder; give the one that holds what $file names below data/"
  [ -d "${WEIGHTS:-}" ] || fail "WEIGHTS=${WEIGHTS:-}: no such folder; give the one that holds timm's vit_tiny_patch16_224.augreg_in21k and so on"
  link "$DATA" data
  link "$WEIGHTS" weights
  args+=(--study configs/studies/vision.yaml --target "$file" --out "runs/reproduce-$(basename "$file" .yaml)$suffix")
fi
exec "$bin/esta-worker" ablate "${args[@]}"
