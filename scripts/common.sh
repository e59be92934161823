# Sourced by the other scripts: where programs and caches are, how scripts speak, what they install.
# shellcheck shell=bash

DEVICE="${DEVICE:-cpu}"
PROFILE="${PROFILE:-release}"
cache="${ESTA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/esta}"

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
fail() { say "$*"; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_debian() { # install_debian PACKAGE...: services among them are not started
  command -v apt-get >/dev/null || fail "install $* first: there is no apt-get here"
  say "installing $*"
  as_root apt-get update -qq
  as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

need() { # need COMMAND PACKAGE...
  command -v "$1" >/dev/null || install_debian "${@:2}"
}

need_venv() { # Debian's python3 comes without
  python3 -c 'import ensurepip' 2>/dev/null || install_debian python3-venv
}

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

replace_folder() { # replace_folder NEW TARGET: NEW takes TARGET's place
  chmod 755 "$1"
  rm -rf "$2.old"
  [ ! -e "$2" ] || mv "$2" "$2.old"
  mv "$1" "$2"
  rm -rf "$2.old"
}
