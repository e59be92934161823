#!/usr/bin/env bash
# Brings Linux's manual pages into the cache and links them at .cache/data/manpages: Debian's packages manpages and
# manpages-dev, and what scripts/manpages.py makes of them, text to pre-train on and questions with answers. No root
# needed where apt knows the packages and python3 is there; nothing is installed. Other versions of the packages give
# other pages and questions, so no sums are fixed here: MADE.txt says which versions and scripts gave what is there,
# and about.json counts it. What is there and whole is left alone.
set -euo pipefail
export LC_ALL=C # one order of names everywhere

PAGES_AT_LEAST=1000
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/common.sh"
data="$cache/data"
made=(about.json corpus.jsonl corpus-heldout.jsonl train.jsonl eval.jsonl)

recipe() { # recipe FOLDER: what the files depend on
  cat "$1/VERSIONS.txt"
  (cd "$root/scripts" && sha256sum manpages.py manpage.py manquestions.py roff.py)
}

sums() { # sums FOLDER: of what was made
  (cd "$1" && sha256sum "${made[@]}" 2>/dev/null) || true
}

count_pages() { # count_pages FOLDER
  find "$1" -path '*/man[1-8]/*.gz' -type f 2>/dev/null | wc -l
}

good() { # good FOLDER: its files are those that these scripts made of its pages
  [ -e "$1/VERSIONS.txt" ] && [ "$(cat "$1/MADE.txt" 2>/dev/null)" = "$(recipe "$1"; sums "$1")" ]
}

download() { # download FOLDER: the pages to FOLDER/pages, their versions to FOLDER/VERSIONS.txt
  need apt-get apt
  say "downloading manpages and manpages-dev (4 MB, once)"
  mkdir "$1/debs"
  # _apt, apt's own user, cannot write into this folder; apt then downloads as us and says so.
  if ! (cd "$1/debs" && apt-get download -qq manpages manpages-dev 2>../apt.log); then
    say "apt does not know the packages yet; updating its lists"
    as_root apt-get update -qq
    (cd "$1/debs" && apt-get download -qq manpages manpages-dev 2>../apt.log) ||
      fail "apt-get download: $(cat "$1/apt.log")"
  fi
  local deb
  for deb in "$1"/debs/*.deb; do
    dpkg -x "$deb" "$1/pages"
    echo "$(dpkg-deb -f "$deb" Package) $(dpkg-deb -f "$deb" Version)" >>"$1/VERSIONS.txt"
  done
  rm -rf "$1/debs" "$1/apt.log"
  [ "$(count_pages "$1/pages")" -ge "$PAGES_AT_LEAST" ] ||
    fail "$(count_pages "$1/pages") pages in the packages; at least $PAGES_AT_LEAST were expected"
}

make_data() { # make_data FOLDER
  local versions
  mapfile -t versions <"$1/VERSIONS.txt"
  say "reading the pages and asking about them (15 seconds)"
  python3 "$root/scripts/manpages.py" "$1/pages" "$1" "${versions[@]}"
  python3 "$root/scripts/manpages.py" --check "$1"
  { recipe "$1"; sums "$1"; } >"$1/MADE.txt"
}

need python3 python3
mkdir -p "$data"
if ! good "$data/manpages"; then
  tmp=$(mktemp -d "$data/manpages.tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  if [ "$(count_pages "$data/manpages/pages")" -ge "$PAGES_AT_LEAST" ]; then # another recipe, the same pages
    cp -a "$data/manpages/pages" "$data/manpages/VERSIONS.txt" "$tmp"
  else
    download "$tmp"
  fi
  make_data "$tmp"
  replace_folder "$tmp" "$data/manpages"
fi
link "$data" "$root/.cache/data"
say "manual pages at .cache/data/manpages"
