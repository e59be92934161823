"""A small job in a folder that is an image's /var/lib/esta: images, labels, two anchors of three blocks."""

import os
import struct
import tempfile
from pathlib import Path

STATE = "/var/lib/esta"
SAMPLES, SIDE, CLASSES = 96, 8, 3


class Lab:
    """The folder; it belongs to the user of the image."""

    def __init__(self, user: tuple[int, int]) -> None:
        self.user = user
        self.holder = tempfile.TemporaryDirectory(prefix="esta-image-")
        self.path = Path(self.holder.name)
        self.path.chmod(0o755)
        os.chown(self.path, *user)
        self.write("images.idx", struct.pack(">4I", 0x803, SAMPLES, SIDE, SIDE) + bytes(pixels()))
        self.write("labels.idx", struct.pack(">2I", 0x801, SAMPLES) + bytes(sample % CLASSES for sample in range(SAMPLES)))

    def close(self) -> None:
        """Removes it."""
        self.holder.cleanup()

    def write(self, name: str, content: bytes) -> str:
        """Writes a file and answers its path in the container."""
        (self.path / name).write_bytes(content)
        os.chown(self.path / name, *self.user)
        return f"{STATE}/{name}"

    def job(self, name: str, steps: int, more: str = "") -> str:
        """Writes a job file and answers its path in the container."""
        data = f"layout: idx, path: {STATE}/images.idx, labels: {STATE}/labels.idx"
        text = f"name: {name}\nseed: 11\nrecipe: paper\n{more}family:\n  anchors:\n"
        for anchor, width in (("a", 8), ("b", 16)):
            arch = f"image_size: {SIDE}, patch_size: 4, in_chans: 1, embed_dim: {width}, depth: 3, num_heads: 2"
            text += f"    - {{name: {anchor}, weights: {STATE}/anchors/{anchor}, arch: {{{arch}}}}}\n"
        text += (
            "budgets: {gap: 3000}\n"
            f"train: {{max_steps: {steps}, batch_size: 16, learning_rate: 3.0e-3, save_steps: 20, logging_steps: 5}}\n"
            f"data:\n  num_classes: {CLASSES}\n  train: {{{data}}}\n  eval: {{{data}}}\n"
            "eval: {stitches: all}\n"
        )
        return self.write(f"{name}.yaml", text.encode())


def pixels():
    """Three classes of noisy bars: horizontal, vertical, both."""
    noise = 12345
    for sample in range(SAMPLES):
        for y in range(SIDE):
            for x in range(SIDE):
                noise = (noise * 1_664_525 + 1_013_904_223) % (1 << 32)
                bar = (y % 4 < 2 and sample % CLASSES != 1) or (x % 4 < 2 and sample % CLASSES != 0)
                yield (150 if bar else 20) + (noise >> 24) // 3
