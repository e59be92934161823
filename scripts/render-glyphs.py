#!/usr/bin/env python3
"""Renders the letters and symbols of many font files as IDX files of 28x28 images: for the offline study.

    render-glyphs.py FONTS GARMENTS OUT

FONTS holds the folders `train` and `test`, each with one folder per font package, its .ttf and .otf files anywhere
below. Every face on one side gives images to that side alone, and a held-out face that all but repeats a training face
is left out, so the held-out letters are of fonts never seen. OUT receives `upper-` (A-Z) and `lower-` (a-z) files of
both sides, labels 0 to 25, and `FACES.txt`, the faces used.

The source domain is `source-`: six garments of Fashion-MNIST, whose four files are in GARMENTS, and symbols of the
training fonts: marks, currencies, Greek, Cyrillic and Nordic letters that look like none of A-Z and a-z, and no digit.

The same fonts and the same Pillow give the same bytes before compression.
"""

import fnmatch
import gzip
import operator
import random
import re
import string
import struct
import sys
from dataclasses import dataclass
from math import cos, radians, sin, sqrt
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SEED = 20
SIDE = 28  # pixels of a finished image
OVERSAMPLE = 4  # the letter is drawn this much larger, then averaged
FONT_SIZE = 112  # pixels per em of the drawing; a capital is then about as tall as on the oversampled image
FINGERPRINT = 8  # pixels a side of a letter when two faces are compared
FACES_PER_FAMILY = 4  # more weights of one family would crowd out the others
VARIANTS = 1  # images of one letter of one face
COPY = 0.985  # correlation of fingerprints from which a face counts as a copy of another on its own side
LEAK = 0.95  # the same between a held-out face and a training face
SMALL_CAPITALS = 0.75  # mean correlation with the capitals from which lower case counts as capitals
SETS = {"upper": string.ascii_uppercase, "lower": string.ascii_lowercase}
# Symbols by class; those of one class differ by a turn, a mirror or their size alone.
SYMBOLS = "!¡ ?¿ & @ # $ % () * + / <>^ [] {} ~ = ; : € £ ¥ § ¶ † ‡ © ® «» ¢ × ÷ ± ß æ œ øØ þÞ ð Æ Œ ÐĐ ł Ł đ".split()
SYMBOLS += "ΓГ Δ θΘ Λ λ Ξ ξ ΠПп π Σ σ φΦфФ ψΨ Ω ω β γ δ ε ζ η μ Б б дД жЖ зЗ иИ лЛ цЦ чЧ шШ щЩ ъЪ ыЫ эЭ юЮ яЯ".split()
SYMBOLS_OF_A_FACE = 20  # a face that draws fewer is left out
SYMBOL_VARIANTS = 4
GARMENTS = [0, 1, 3, 5, 7, 8]  # T-shirts, trousers, dresses, sandals, trainers, bags: the other four stay unseen
HELD_OUT = {"garments": 2000, "symbols": 3000}
UNLIKE_CAPITALS = "abdefghnqrt"  # letters whose two cases differ in shape
# Seen by eye. Symbols, ornaments, keys, letters in boxes and letters nobody could name:
NOT_LETTERS = ["D050000L*", "StandardSymbols*", "*Symbol*", "*Dingbat*", "*Math*", "*_K.*", "*_K_*", "*Initials*"]
NOT_LETTERS += ["OCRBE*", "Joscelyn*", "flatline*", "f500*"]
# One case in the shapes of the other, in part.
MIXED_CASE = {
    "upper": ["Solothurn*", "Ubuntu-Title*"],
    "lower": ["Solothurn*", "Humor-Sans*", "TriodPostnaja*", "BecauseWe*"],
}


@dataclass
class Face:
    """One font file, its letters drawn large."""

    package: str
    path: Path
    glyphs: dict  # letter -> its ink as an L image, cropped
    fingerprint: list  # unit vector over all letters of the set


def main():
    fonts, garments, out = map(Path, sys.argv[1:4])
    out.mkdir(parents=True, exist_ok=True)
    used = []
    for name, letters in SETS.items():
        kept = {}
        for side in ("train", "test"):
            kept[side] = keep_distinct(load_faces(fonts, side, name), kept.get("train", []))
            write_set(out, f"{name}-{side}", render_set(kept[side], letters))
            used += [f"{name} {side} {face.package} {face.path.name}\n" for face in kept[side]]
    (out / "FACES.txt").write_text("".join(used), encoding="utf-8")
    write_source(out, fonts, garments)


def load_faces(fonts, side, name):
    """The usable faces of a side, at most FACES_PER_FAMILY of each family, in the order of their paths."""
    faces = []
    for package, paths in families(fonts / side, NOT_LETTERS + MIXED_CASE[name]):
        usable = (face for path in paths if (face := load_face(package, path, name)))
        faces += [face for face, _ in zip(usable, range(FACES_PER_FAMILY))]
    return faces


def families(folder, unwanted):
    """Package and shuffled font files of every family, in the order of their names."""
    found = {}
    for path in sorted(folder.glob("*/**/*")):
        package = path.relative_to(folder).parts[0]
        if path.suffix.lower() not in (".ttf", ".otf") or path.is_symlink():
            continue
        if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in unwanted):
            continue
        found.setdefault((package, re.split(r"[-_ .]", path.name)[0]), []).append(path)
    for (package, family), paths in sorted(found.items()):
        random.Random(f"{SEED}/{package}/{family}").shuffle(paths)
        yield package, paths


def open_font(path):
    try:
        return ImageFont.truetype(str(path), FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        return None


def load_face(package, path, name):
    """The face, or None where a letter of the set is absent, two letters are one, or lower case is capitals."""
    font = open_font(path)
    if font is None:
        return None
    letters = SETS[name]
    glyphs = {letter: draw(font, letter) for letter in letters}
    absent = draw(font, "\U0010fffd")  # a code point no font maps: the picture for a missing letter
    pictures = {image.tobytes() for image in glyphs.values() if image}
    if None in glyphs.values() or len(pictures) < len(letters) or (absent and absent.tobytes() in pictures):
        return None
    if name == "lower" and looks_like_capitals(font, glyphs):
        return None
    points = [point for letter in letters for point in fingerprint(glyphs[letter])]
    return Face(package, path, glyphs, unit(points))


def draw(font, letter):
    """The letter's ink, white on black, cropped to itself; None where there is none."""
    left, top, right, bottom = font.getbbox(letter)
    if not (0 < right - left < 8 * FONT_SIZE and 0 < bottom - top < 8 * FONT_SIZE):
        return None
    image = Image.new("L", (right - left + 8, bottom - top + 8))
    ImageDraw.Draw(image).text((4 - left, 4 - top), letter, font=font, fill=255)
    ink = image.getbbox()
    return image.crop(ink) if ink else None


def looks_like_capitals(font, glyphs):
    capitals = {letter: draw(font, letter.upper()) for letter in UNLIKE_CAPITALS}
    if None in capitals.values():
        return False
    alike = [
        dot(unit(fingerprint(glyphs[letter])), unit(fingerprint(capital))) for letter, capital in capitals.items()
    ]
    return sum(alike) / len(alike) > SMALL_CAPITALS


def fingerprint(image):
    return image.resize((FINGERPRINT, FINGERPRINT), Image.Resampling.BOX).tobytes()


def unit(values):
    """The values less their mean, of length one: the dot product of two is their correlation."""
    mean = sum(values) / len(values)
    length = sqrt(sum((value - mean) ** 2 for value in values)) or 1.0
    return [(value - mean) / length for value in values]


def dot(left, right):
    return sum(map(operator.mul, left, right))


def keep_distinct(faces, training):
    """The faces that copy neither an earlier face of their side nor, more strictly, a training face."""
    kept = []
    for face in faces:
        if any(dot(face.fingerprint, other.fingerprint) > LEAK for other in training):
            continue
        if any(dot(face.fingerprint, other.fingerprint) > COPY for other in kept):
            continue
        kept.append(face)
    return kept


def render_set(faces, letters):
    """(label, pixels) of every face, letter and variant, no picture twice, shuffled."""
    seen, samples = set(), []
    for face in faces:
        for label, letter in enumerate(letters):
            for variant in range(VARIANTS):
                draws = random.Random(f"{SEED}/{face.package}/{face.path.name}/{letter}/{variant}")
                pixels = render(face.glyphs[letter], draws)
                if pixels not in seen:
                    seen.add(pixels)
                    samples.append((label, pixels))
    random.Random(SEED).shuffle(samples)
    return samples


def render(ink, draws):
    """The letter within SIDE x SIDE, slightly scaled, turned, sheared and shifted."""
    scale = OVERSAMPLE * draws.uniform(17, 21) / max(ink.size)
    angle, shear = radians(draws.uniform(-8, 8)), draws.uniform(-0.12, 0.12)
    shift_x, shift_y = (OVERSAMPLE * draws.uniform(-1.5, 1.5) for _ in range(2))
    # From a pixel of the result back to the drawing: undo shift, turn, shear and scale, about the two centres.
    a, b = cos(angle) / scale, sin(angle) / scale
    d, e = -b, a
    a, b = a + shear * d, b + shear * e
    centre = OVERSAMPLE * SIDE / 2
    x, y = -(centre + shift_x), -(centre + shift_y)
    matrix = (a, b, a * x + b * y + ink.width / 2, d, e, d * x + e * y + ink.height / 2)
    large = ink.transform((OVERSAMPLE * SIDE,) * 2, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    small = large.reduce(OVERSAMPLE)
    brightest = small.getextrema()[1] or 1
    return small.point([min(255, value * 255 // brightest) for value in range(256)]).tobytes()


def write_source(out, fonts, garments):
    """Garments first, then symbols, both sides shuffled; held-out symbols are other pictures of the same faces."""
    symbols = [(len(GARMENTS) + label, pixels) for label, pixels in render_symbols(fonts / "train")]
    cut = len(symbols) - HELD_OUT["symbols"]
    train = read_garments(garments, "train") + symbols[:cut]
    test = read_garments(garments, "t10k")[: HELD_OUT["garments"]] + symbols[cut:]
    for name, samples in (("train", train), ("test", test)):
        random.Random(SEED).shuffle(samples)
        write_set(out, f"source-{name}", samples)


def render_symbols(folder):
    """(class, pixels) of every symbol that a face has, no picture twice, shuffled."""
    seen, samples = set(), []
    for package, paths in families(folder, NOT_LETTERS):
        drawn = ((path, glyphs) for path in paths if (glyphs := symbols_of(path)))
        for (path, glyphs), _ in zip(drawn, range(FACES_PER_FAMILY)):
            for symbol, ink in glyphs.items():
                label = next(place for place, alike in enumerate(SYMBOLS) if symbol in alike)
                for variant in range(SYMBOL_VARIANTS):
                    pixels = render(ink, random.Random(f"{SEED}/{package}/{path.name}/{symbol}/{variant}"))
                    if pixels not in seen:
                        seen.add(pixels)
                        samples.append((label, pixels))
    random.Random(SEED).shuffle(samples)
    return samples


def symbols_of(path):
    """What a face draws of the symbols, each a picture of its own; None where that is little."""
    font = open_font(path)
    if font is None:
        return None
    absent = draw(font, "\U0010fffd")
    strange = {absent.tobytes()} if absent else set()
    glyphs = {symbol: ink for symbol in "".join(SYMBOLS) if (ink := draw(font, symbol))}
    pictures = [ink.tobytes() for ink in glyphs.values()]
    strange |= {picture for picture in pictures if pictures.count(picture) > 1}
    glyphs = {symbol: ink for symbol, ink in glyphs.items() if ink.tobytes() not in strange}
    return glyphs if len(glyphs) >= SYMBOLS_OF_A_FACE else None


def read_garments(folder, name):
    """(class, pixels) of the garments that belong to the source, in the order of the file."""
    labels = gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes())[8:]
    images = gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes())[16:]
    size = SIDE * SIDE
    return [
        (GARMENTS.index(label), images[place * size : (place + 1) * size])
        for place, label in enumerate(labels)
        if label in GARMENTS
    ]


def write_set(out, name, samples):
    labels = bytes(label for label, _ in samples)
    images = b"".join(pixels for _, pixels in samples)
    write_idx(out / f"{name}-images-idx3-ubyte.gz", (len(samples), SIDE, SIDE), images)
    write_idx(out / f"{name}-labels-idx1-ubyte.gz", (len(samples),), labels)


def write_idx(path, shape, content):
    head = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    path.write_bytes(gzip.compress(head + content, mtime=0))


if __name__ == "__main__":
    main()
