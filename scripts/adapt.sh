# Sourced by the quickstarts, after common.sh: what adapting a family that is made on the spot takes.
# shellcheck shell=bash
# Environment: WORKERS.

bin=$(binaries)

check_programs() { # check_programs GOAL: make's, which builds them
  case "$DEVICE" in cpu | cuda) ;; *) fail "DEVICE is cpu or cuda, not '$DEVICE'" ;; esac
  [ -x "$bin/esta-worker" ] && [ -x "$bin/esta-coordinator" ] ||
    fail "no binaries in $bin: run 'make $1' or 'make build'"
}

default_workers() { # on GPUs one for each that may be used
  if [ "$DEVICE" != cuda ]; then
    echo 2
  elif [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    # As CUDA reads it: up to the first entry that names no device.
    tr -d ' ' <<<"$CUDA_VISIBLE_DEVICES" | tr ',' '\n' | sed '/^$/Q; /^-1$/Q' | wc -l
  else
    nvidia-smi --list-gpus | wc -l
  fi
}

pretrain() { # pretrain CONFIG ANCHOR STEPS [FLAG...]
  "$bin/esta-worker" pretrain --config "$1" --anchor "$2" --steps "$3" --device "$DEVICE" "${@:4}"
}

make_both() { # make_both LARGE SMALL: the anchors of two functions at once, LARGE with its progress bar, SMALL beside it
  local log small
  log=$(mktemp)
  "$2" >"$log" 2>&1 &
  small=$!
  # shellcheck disable=SC2064  # the process and file of this call
  trap "kill $small 2>/dev/null || true; rm -f '$log'" EXIT
  "$1" || fail "the largest anchor could not be made"
  wait "$small" || fail "the smaller anchors could not be made: $(tail -n 1 "$log")"
  cat "$log" >&2
  rm -f "$log"
  trap - EXIT
}

adapt() { # adapt CONFIG RUN_DIR WHAT [FLAG...]: the run, or what it gave where it has ended; another job there is refused
  say "$3"
  "$bin/esta-coordinator" run --config "$1" --workers "${WORKERS:-$(default_workers)}" --device "$DEVICE" \
    "${@:4}"
  say "open $2/report.html; 'rm -r $2' and once more to run afresh"
}
