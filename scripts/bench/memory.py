"""How memory is measured: the peak of a step in a fresh process, beyond what it held before there was a model.

On a processor that is resident memory as the kernel counts it; loading and fitting are over when counting begins. By
itself glibc keeps most of what is freed, in pieces that fit nothing: the same step may hold a third more in its second
round. So memory is measured twice: given back once freed, which is what tensors take, and as glibc comes.
On a card it is what the driver has handed out: libtorch's allocator keeps what it took, so what is out after a step is
its peak. No one else may use the card meanwhile.
"""

import math
import subprocess
from dataclasses import dataclass
from pathlib import Path

from child import Ended


# glibc maps every tensor of this size by itself, and unmaps it when it is freed.
GIVE_BACK = dict(MALLOC_MMAP_THRESHOLD_=str(256 * 1024))
# Steps until the peak has settled where freed memory is kept.
SETTLED = 3


class Resident:
    """A process's memory."""

    def __init__(self, pid):
        self.folder = Path(f"/proc/{pid}")

    def now(self):
        return self._bytes("VmRSS:")

    def forget_peak(self):
        try:
            (self.folder / "clear_refs").write_text("5")
        except OSError:
            pass  # where the system forbids it the peak covers the start, too

    def peak(self):
        return self._bytes("VmHWM:")

    def _bytes(self, field):
        lines = (self.folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


class Card:
    """The memory of the first card."""

    def __init__(self, _pid):
        pass

    def now(self):
        return self.query("memory.used")

    def forget_peak(self):
        pass

    def peak(self):
        return self.now()

    @staticmethod
    def query(field):
        command = ["nvidia-smi", "--id=0", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
        try:
            return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 2**20
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"bench: the card says nothing of its memory: {error}") from error


@dataclass
class Peak:
    """What a step took, and how many parameters it trained."""

    bytes: float
    trained: int


def step_peak(start, case, device, steps=1):
    """The peak of the steps of `case`. Optimizer state counts: a step of one image goes first and makes it."""
    with start() as child:
        gauge = {"cpu": Resident, "cuda": Card}[device](child.pid)
        base = gauge.now()
        trained = child.begin(case).case["trained"]
        gauge.forget_peak()
        child.ask("warm 1")
        try:
            child.ask(f"steps {steps}")
        except Ended:
            if device == "cpu":
                raise
            return Peak(math.inf, trained)
        return Peak(gauge.peak() - base, trained)


def line(peaks):
    """Bytes of no image and bytes of each, through the two largest batches whose peak is known."""
    (few, low), (many, high) = sorted((count, peak) for count, peak in peaks.items() if math.isfinite(peak))[-2:]
    slope = (high - low) / (many - few)
    return low - slope * few, slope


def largest_batch(measure, peaks, limit, runs=10):
    """The largest batch whose peak stays within `limit`, and the smallest seen beyond it, which is one more unless
    `runs` were too few. Predicted by a line and then run; `peaks` gets what was run."""
    within, beyond = ends(peaks, limit)
    while runs and beyond - within > 1:
        count = guess(peaks, limit, within, beyond)
        peaks[count] = measure(count)
        within, beyond = ends(peaks, limit)
        runs -= 1
    return within, beyond


def ends(peaks, limit):
    within = max((count for count, peak in peaks.items() if peak <= limit), default=0)
    return within, min((count for count, peak in peaks.items() if peak > limit), default=math.inf)


def guess(peaks, limit, within, beyond):
    """Where the line meets the limit; half-way where memory ran out and the line says nothing. Four times what was run
    at most: where updates need more than small batches do, the line is flat at first."""
    if math.isinf(peaks.get(beyond, 0)):
        return (within + beyond) // 2
    start, slope = line(peaks)
    met = (limit - start) // slope if slope > 0 else math.inf
    return int(max(within + 1, min(beyond - 1, 4 * within, met)))
