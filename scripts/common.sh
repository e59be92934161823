# Sourced by the scripts that run the programs: where they are, where caches are, how scripts speak. Expects DEVICE and
# PROFILE to have defaults where they are used; the checkout is the working folder.
# shellcheck shell=bash

DEVICE="${DEVICE:-cpu}"
PROFILE="${PROFILE:-release}"
cache="${ESTA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/esta}"

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
fail() { say "$*"; exit 1; }

binaries() { # the folder cargo puts this profile's binaries in; `dev` builds into debug
  local folder=$PROFILE
  [ "$PROFILE" != dev ] || folder=debug
  echo "${CARGO_TARGET_DIR:-target}/$folder"
}

link() { # link TARGET NAME: a link in the checkout, never over a folder of the user's
  if [ -e "$2" ] && [ ! -L "$2" ]; then fail "$2 is in the way: it should be a link to $1"; fi
  mkdir -p "$(dirname "$2")"
  ln -sfn "$(realpath "$1")" "$2"
}

link_anchors() { # link_anchors CONFIG NAME STEP...: anchors live in the cache, under a name that says how they were made
  local config=$1 name=$2 key
  shift 2
  key=$(cat "$config" <(echo "$* $DEVICE") | sha256sum | cut -c1-16)
  mkdir -p "$cache/anchors/$key"
  link "$cache/anchors/$key" "$name"
}
