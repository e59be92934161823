"""Writes the golden images beside this file with Pillow, the library timm and torchvision resize through.

    python -m venv venv && venv/bin/pip install pillow==12.1.0 numpy && venv/bin/python make_golden.py

Pillow 13 resizes vertically first where that is faster (its pull request 9549); every version before, with which the
published anchors were trained, goes horizontally first, and so do we. The results differ by a few levels.

Inputs are synthetic: smooth waves with a little noise and a hard edge, so that overshoot is clipped somewhere.
"""

import json
import math
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

assert int(PIL.__version__.split(".")[0]) <= 12, f"Pillow {PIL.__version__} resizes in another order"

HERE = Path(__file__).parent


def synthetic(seed, width, height, channels):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for _ in range(channels):
        fx, fy, phase = rng.uniform(0.1, 0.9, 3)
        plane = 127 + 100 * np.sin(fx * x + fy * y + 6 * phase) + rng.normal(0, 12, (height, width))
        plane[:, width // 2 : width // 2 + 2] = 255
        plane[height // 3, :] = 0
        planes.append(plane.clip(0, 255).round().astype(np.uint8))
    array = planes[0] if channels == 1 else np.stack(planes, axis=-1)
    return Image.fromarray(array)


def direct(image, size):
    return image.resize((size, size), Image.BICUBIC)


def center_crop(image, size):
    """timm's transforms_imagenet_eval with crop_pct = 7/8: torchvision's Resize(int) and CenterCrop(int), spelt out."""
    shorter = math.floor(size / 0.875)
    width, height = image.size
    if width <= height:
        image = image.resize((shorter, int(shorter * height / width)), Image.BICUBIC)
    else:
        image = image.resize((int(shorter * width / height), shorter), Image.BICUBIC)
    width, height = image.size
    top, left = int(round((height - size) / 2.0)), int(round((width - size) / 2.0))
    return image.crop((left, top, left + size, top + size))


RESIZES = {"direct": direct, "center_crop": center_crop}

# (input, resize, side, channels)
CASES = [
    ("wide_rgb.png", "direct", 16, 3),
    ("wide_rgb.png", "center_crop", 16, 3),
    ("wide_rgb.png", "direct", 40, 3),
    ("wide_rgb.png", "direct", 16, 1),
    ("tall_rgb.png", "center_crop", 21, 3),
    ("tall_rgb.png", "direct", 14, 3),
    ("tall_grey.png", "center_crop", 28, 1),
    ("tall_grey.png", "direct", 9, 3),
    ("digit.png", "direct", 28, 1),
    ("digit.png", "center_crop", 28, 1),
    ("digit.png", "direct", 8, 1),
    ("alpha.png", "direct", 12, 3),
    ("palette.png", "direct", 12, 3),
]


def save_inputs():
    synthetic(1, 61, 37, 3).save(HERE / "wide_rgb.png")
    synthetic(2, 23, 50, 3).save(HERE / "tall_rgb.png")
    synthetic(3, 19, 45, 1).save(HERE / "tall_grey.png")
    synthetic(4, 8, 8, 1).save(HERE / "digit.png")
    synthetic(5, 17, 20, 4).save(HERE / "alpha.png")
    synthetic(6, 18, 15, 3).quantize(16).save(HERE / "palette.png")
    synthetic(7, 48, 32, 3).save(HERE / "colour.jpg", quality=90, subsampling=0)
    synthetic(8, 48, 32, 3).save(HERE / "subsampled.jpg", quality=85, subsampling=2)
    synthetic(9, 33, 21, 1).save(HERE / "grey.jpg", quality=90)


def main():
    save_inputs()
    cases = []
    for name, how, size, channels in CASES:
        image = Image.open(HERE / name).convert("L" if channels == 1 else "RGB")
        stem = name.split(".")[0]
        output = f"{stem}.{how}.{size}x{channels}.expected.png"
        RESIZES[how](image, size).save(HERE / output)
        cases.append({"input": name, "resize": how, "image_size": size, "channels": channels, "expected": output})
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    for name in ("colour", "subsampled", "grey"):
        Image.open(HERE / f"{name}.jpg").save(HERE / f"{name}.jpg.expected.png")


if __name__ == "__main__":
    main()
