#!/usr/bin/env bash
# Renders letters and symbols of 142 Debian font packages into the cache, linked at .cache/data/glyphs: IDX files of
# 28x28 images, A-Z and a-z, held-out letters from packages that gave no training letter, and the source domain of the
# offline study, symbols beside six garments of Fashion-MNIST. The study reads them; nothing else does. Needs
# scripts/fetch-data.sh before it. No root needed where apt knows the packages and python3 has venv; no font is
# installed. Other versions of the packages give other images: then it says so. What is there and right is left alone.
set -euo pipefail
export LC_ALL=C # one order of names everywhere

PILLOW_VERSION=11.3.0
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/common.sh"
data="$cache/data"
venv="$cache/venv-pillow-$PILLOW_VERSION"

# A package and what was derived from it stand on one side; render-glyphs.py leaves out copies that escaped this.
packages_of_train() {
  cat <<'PACKAGES'
fonts-3270 fonts-averia-gwf fonts-averia-serif-gwf fonts-b612 fonts-bajaderka fonts-beteckna fonts-blankenburg
fonts-bwht fonts-cabin fonts-cabinsketch fonts-cantarell fonts-cardo fonts-comfortaa fonts-comic-neue
fonts-courier-prime fonts-dancingscript fonts-dosis fonts-essays1743 fonts-eurofurence fonts-fanwood fonts-firacode
fonts-georgewilliams fonts-gfs-artemisia fonts-gnutypewriter fonts-goudybookletter fonts-havana fonts-humor-sans
fonts-inconsolata fonts-isabella fonts-junction fonts-jura fonts-kaushanscript fonts-klaudia-berenika fonts-kristi
fonts-league-spartan fonts-lobstertwo fonts-monofur fonts-mononoki fonts-oldstandard fonts-open-sans
fonts-opendyslexic fonts-paratype fonts-play fonts-prociono fonts-quattrocento fonts-quicksand fonts-roboto-slab
fonts-rufscript fonts-sil-gentium-basic fonts-stix fonts-tiresias fonts-tomsontalks fonts-tuffy fonts-vollkorn
fonts-yanone-kaffeesatz
PACKAGES
}

packages_of_test() {
  cat <<'PACKAGES'
fonts-adf-accanthis fonts-adf-baskervald fonts-adf-berenis fonts-adf-gillius fonts-adf-ikarius fonts-adf-irianis
fonts-adf-libris fonts-adf-mekanus fonts-adf-oldania fonts-adf-romande fonts-adf-switzera fonts-adf-tribun
fonts-adf-universalis fonts-adf-verana fonts-agave fonts-allerta fonts-anonymous-pro fonts-apropal fonts-arapey
fonts-babelstone-modern fonts-bebas-neue fonts-breip fonts-century-catalogue fonts-cherrybomb fonts-clear-sans
fonts-cmu fonts-crosextra-caladea fonts-dejavu-core fonts-dejavu-extra fonts-dkg-handwriting fonts-dustin
fonts-ebgaramond fonts-ecolier-court fonts-elstob fonts-engadget fonts-fantasma fonts-fantasque-sans fonts-femkeklaver
fonts-ferrite-core fonts-freefont-ttf fonts-gamaliel fonts-gfs-didot fonts-gfs-neohellenic fonts-glasstty fonts-go
fonts-gotico-antiqua fonts-hack fonts-hermit fonts-inter fonts-jetbrains-mono fonts-karla fonts-lato fonts-le-murmure
fonts-league-mono fonts-leckerli-one fonts-lemonada fonts-levien-museum fonts-levien-typoscript fonts-liberation2
fonts-lindenhill fonts-linuxlibertine fonts-manrope fonts-monoid fonts-national-park fonts-ocr-a fonts-ocr-b
fonts-okolaks fonts-opendin fonts-osifont fonts-oxygen fonts-radisnoir fonts-roadgeek fonts-roboto-unhinted
fonts-routed-gothic fonts-sil-andika fonts-sil-charis fonts-sjfonts fonts-smc-chilanka fonts-smc-manjari fonts-sora
fonts-staypuft fonts-summersby fonts-tlwg-purisa-ttf fonts-tlwg-sawasdee-ttf fonts-triod-postnaja fonts-urw-base35
fonts-yrsa-rasa
PACKAGES
}

# Of the content: another zlib compresses to other bytes.
expected_sums() {
  cat <<'SUMS'
d2b0d9aa8ee058b6ae316e87c23e096447b5a3e55dce1122a785dc8a2ffd7c08  lower-test-images-idx3-ubyte
e00144e53cebd2085cf543ba91ef303d95fbcb19379f09350e555f4d536114b3  lower-test-labels-idx1-ubyte
83c17d716b54c724b94ad1cca6e9fcb8767e10389b50ffcff8dddb40cc1de4ab  lower-train-images-idx3-ubyte
257d29bfe509ce1b7b7eb284a3ee36ac48328888a797377dc5077c42f03788ac  lower-train-labels-idx1-ubyte
603f6f7ab4c890e39587dccd17147f042f6496ac2728cec27c5fe2c066693843  source-test-images-idx3-ubyte
92bea54b8291373e241b716f27249c20f38739c29655525af6d68cdc59d06caf  source-test-labels-idx1-ubyte
7a9a744fca15f996b226c3eff0a42f6c3b840b599e391df7878d67abbb300025  source-train-images-idx3-ubyte
07c2b3ab1961c96a2de3f90bb1cdd980935c41abdb729611e9bc01e8bcd07386  source-train-labels-idx1-ubyte
950dee38fc9624936b480711107b0d956fe0b5d3ad8e49bcad222de8039c70be  upper-test-images-idx3-ubyte
6011445e7283ba63322a09f9fa6c12ddd8dec96f4d437dbd972f63522405d5c9  upper-test-labels-idx1-ubyte
a2cee28be536d5f0e9d91971e5db99bfaa78a8e32530c33e6c5997ee51cf38b9  upper-train-images-idx3-ubyte
52d59b74d4263e16b0634bbcbda88e02d5bc0209ad874c1fb33c6088573fd283  upper-train-labels-idx1-ubyte
SUMS
}

sums() { # sums FOLDER: of the content of each file
  local file
  for file in "$1"/*-ubyte.gz; do
    [ ! -e "$file" ] || printf '%s  %s\n' "$(gzip -dc "$file" | sha256sum | cut -d' ' -f1)" "$(basename "$file" .gz)"
  done
}

recipe() { # what the images depend on apart from the versions of the packages
  { echo "$PILLOW_VERSION"; packages_of_train; echo; packages_of_test; cat "$root/scripts/render-glyphs.py"; } |
    sha256sum
}

good() { # the expected images, or those that this recipe made of other versions
  local found
  [ -e "$data/glyphs/FONTS.txt" ] || return 1
  found=$(sums "$data/glyphs")
  [ "$found" != "$(expected_sums)" ] || return 0
  [ "$(cat "$data/glyphs/MADE.txt" 2>/dev/null)" = "$(recipe; echo "$found")" ]
}

need_pillow() {
  [ ! -e "$venv/installed" ] || return 0
  need_venv
  python3 -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --disable-pip-version-check -q --only-binary :all: "pillow==$PILLOW_VERSION" >&2
  touch "$venv/installed"
}

known() { # known PACKAGE...: those that apt can download
  comm -12 <(printf '%s\n' "$@" | sort) <(apt-cache pkgnames fonts- | sort)
}

unpack() { # unpack SIDE FOLDER PACKAGE...: the packages to FOLDER/fonts/SIDE, their versions to FONTS.txt
  local side=$1 folder=$2 package deb version
  shift 2
  for package in "$@"; do
    deb=$(find "$folder" -maxdepth 1 -name "${package}_*.deb")
    [ -n "$deb" ] || { say "no package $package here"; continue; }
    version=$(dpkg-deb -f "$deb" Version)
    printf '%s %s %s\n' "$side" "$package" "$version" >>"$folder/files/FONTS.txt"
    mkdir -p "$folder/fonts/$side/$package"
    dpkg -x "$deb" "$folder/fonts/$side/$package"
  done
}

make_glyphs() { # make_glyphs FOLDER
  local train test names
  [ -e "$data/fashion-mnist/train-images-idx3-ubyte.gz" ] ||
    fail "the source domain takes its garments from Fashion-MNIST: run scripts/fetch-data.sh first"
  read -r -d '' -a train < <(packages_of_train) || true
  read -r -d '' -a test < <(packages_of_test) || true
  command -v apt-get >/dev/null || fail "the fonts come as Debian packages: there is no apt-get here"
  if [ "$(known "${train[@]}" "${test[@]}" | wc -l)" -lt $((${#train[@]} + ${#test[@]})) ]; then
    say "apt does not know all packages yet; updating its lists"
    as_root apt-get update -qq || true
  fi
  mapfile -t names < <(known "${train[@]}" "${test[@]}")
  say "downloading ${#names[@]} font packages (75 MB, once)"
  # _apt, apt's own user, cannot write into this folder; apt then downloads as us and says so.
  (cd "$1" && apt-get download -qq "${names[@]}" 2>apt.log) || fail "apt-get download: $(cat "$1/apt.log")"
  mkdir "$1/files"
  unpack train "$1" "${train[@]}"
  unpack test "$1" "${test[@]}"
  say "rendering (two minutes)"
  "$venv/bin/python" "$root/scripts/render-glyphs.py" "$1/fonts" "$data/fashion-mnist" "$1/files"
  { recipe; sums "$1/files"; } >"$1/files/MADE.txt"
}

mkdir -p "$data"
if ! good; then
  need_pillow
  tmp=$(mktemp -d "$data/glyphs.tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  make_glyphs "$tmp"
  replace_folder "$tmp/files" "$data/glyphs"
fi
[ "$(sums "$data/glyphs")" = "$(expected_sums)" ] || say "WARNING: these packages gave other images than those of the" \
  "committed results (versions in $data/glyphs/FONTS.txt); results on letters will differ"
link "$data" "$root/.cache/data"
say "letters at .cache/data/glyphs"
