"""Measures and prints one table. Whatever is compared runs in turn, A B A B, in one run; times are medians."""

import argparse
import functools
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import cases
import collector
import coordination
import kills
import laws
from child import Child, Ended
from memory import GIVE_BACK, SETTLED, Card, largest_batch, line, step_peak
from table import Table, kibibytes, mebibytes, milliseconds, per_second

HERE = Path(__file__).parent


def in_turn(one, other, request, rounds):
    """Medians of both, and the ratio of medians with the range that single rounds show."""
    for child in (one, other):
        child.ask(request)
    pairs = [(one.ask(request), other.ask(request)) for _ in range(rounds)]
    ratios = sorted(statistics.median(a["ms"]) / statistics.median(b["ms"]) for a, b in pairs)
    medians = [statistics.median(ms for answer in answers for ms in answer["ms"]) for answers in zip(*pairs)]
    ratio = f"{medians[0] / medians[1]:.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return medians, ratio, pairs[-1]


def compare(table, name, children, request, rounds, goal=""):
    (ours, theirs), ratio, last = in_turn(*children, request, rounds)
    table.row(name, milliseconds(ours), milliseconds(theirs), ratio, goal)
    return last


def same_size(name, ours, theirs):
    if ours != theirs:
        sys.exit(f"bench: {name}: {ours} trained parameters here, {theirs} in PyTorch")


def against_pytorch(options, table):
    table.section("A worker's step, one slot, one thread | the same step in plain PyTorch")
    for name, case in cases.STEPS.items():
        with options.worker() as ours, options.pytorch() as theirs:
            pair = (ours.begin(options.case(case)), theirs.begin(case))
            same_size(name, *(child.case["trained"] for child in pair))
            compare(table, f"{name}, {case['images']} images", pair, options.request(name), options.rounds, "<= 1.05")


def text_against_pytorch(options, table):
    if options.tokenizer is None:
        return
    table.section("A worker's step on texts, one slot, one thread | the same step in plain PyTorch")
    for name, case in cases.TEXT_STEPS.items():
        with options.worker() as ours, options.pytorch() as theirs:
            pair = (ours.begin(options.case(case)), theirs.begin(case))
            same_size(name, *(child.case["trained"] for child in pair))
            what = f"{name}, {case['images']} x {case['tokens']} tokens"
            compare(table, what, pair, options.request(name), options.rounds, "<= 1.05")


def lora_against_peft(options, table):
    """A worker scores what it trains besides; otherwise the steps are the same."""
    if options.tokenizer is None:
        return
    for precision, words in cases.PRECISIONS.items():
        table.section(f"A worker's LoRA step on texts in {words}, one slot, one thread | the same with transformers and peft")
        for name, case in cases.LORA_STEPS.items():
            lora_rows(options, table, name, dict(case, precision=precision))


def lora_rows(options, table, name, case):
    tokens, what = case["images"] * case["tokens"], f"{name}, {case['images']} x {case['tokens']} tokens"
    with options.peft() as theirs, options.worker() as ours:
        pair = (theirs.begin(case), ours.begin(options.case(case)))
        if ours.case.get("precision", "f32") != case["precision"]:
            return table.row(f"{what}: this bench_step knows no {case['precision']}", "not measured")
        same_size(name, *(child.case["trained"] for child in reversed(pair)))
        # Fewer milliseconds are more tokens: the ratio of speeds is that of times turned over.
        (their_ms, our_ms), ratio, _ = in_turn(*pair, options.request(name), options.rounds)
    table.row(what, per_second(tokens, our_ms), per_second(tokens, their_ms), ratio, ">= 0.95")
    ours, theirs = (options.lora_peak(program, case) for program in ("worker", "peft"))
    peak_row(table, f"{what}: peak memory", ours, theirs)


# How a worker is watched, in words, its environment but for where it exports to, the goal.
WATCHED = (
    ("not watched either", None, "1"),
    ("1 % of the steps traced, metrics pushed", "0.01", "<= 1.01"),
    ("every step traced, metrics pushed", "1", "<= 1.10"),
)


def watched_against_not(options, table):
    table.section("A worker's step, one slot, one thread, watched | not watched")
    for name, (what, share, goal) in itertools.product(cases.WATCHED, WATCHED):
        with collector.Collector(options.programs / "esta-trials") as listening:
            environment = {} if share is None else listening.exports(share)
            with options.worker(**environment) as watched, options.worker() as alone:
                pair = [child.begin(options.case(cases.STEPS[name])) for child in (watched, alone)]
                compare(table, f"{name}: {what}", pair, options.request(name), options.rounds, goal)
            if share is not None:
                table.row(f"{name}: {what}: spans that reached the collector", listening.end(), "", "")


def exact_against_float(options, table):
    table.section("Exact reduction, int64 | f32")
    for name, case in cases.REDUCTION.items():
        with options.worker() as exact, options.worker() as floating:
            kinds = ((exact, "int64"), (floating, "f32"))
            pair = [child.begin(options.case(case, reduce=kind)) for child, kind in kinds]
            last = compare(table, f"{name}: step", pair, options.request(name), options.rounds)
            compare(table, f"{name}: all-reduce of two ranks", pair, f"reduce {options.reduces}", options.rounds)
            sizes = [answer["bytes"] for answer in last]
            table.row(f"{name}: bytes reduced", *map(kibibytes, sizes), f"{sizes[0] / sizes[1]:.3f}")


# Who trains a path: a program, and what its case says beside the path.
SYSTEMS = {
    "esta": ("worker", {}),
    "pytorch": ("pytorch", dict(adapted=False)),
    "snnet": ("worker", dict(mode="snnet", reduce="f32")),
}
FULL = {
    "pytorch": "that path alone in plain PyTorch, all of it trained",
    "snnet": "the family in ESTA, all of it trained (mode snnet, f32)",
}


PEAKS = {"cpu": "freed memory given back", "cuda": "what the allocator holds of the card"}


def memory(options, table):
    """Peaks by path and batch, then the largest batch that fits. To train the whole family takes much the same on every
    path: it is measured where the largest batch is sought."""
    pairs = itertools.product(cases.MEMORY, SYSTEMS)
    pairs = [(name, system) for name, system in pairs if system != "snnet" or name in options.largest]
    peaks = {pair: {count: options.peak(*pair, count) for count in options.images} for pair in pairs}
    kept = {}
    if options.device == "cpu":
        kept = {system: options.peak_kept(cases.KEPT, system, options.images[-1]) for system in SYSTEMS}
    for name in options.largest:
        same_size(name, *(peaks[name, other][options.images[0]].trained for other in FULL))
    for other, what in FULL.items():
        table.section(f"Peak memory of a step, {PEAKS[options.device]}, ViT-Ti/S/B resident | {what}")
        measured = [name for name, system in pairs if system == other]
        for name, count in itertools.product(measured, options.images):
            peak_row(table, f"{name}, {count} images", *(peaks[name, system][count] for system in ("esta", other)))
        if kept:
            peak_row(table, f"{cases.KEPT}, {options.images[-1]} images, malloc as it comes", kept["esta"], kept[other])
    for name in options.largest:
        largest(options, table, name, {system: peaks[name, system] for system in SYSTEMS})


def peak_row(table, what, ours, theirs):
    table.row(what, mebibytes(ours.bytes), mebibytes(theirs.bytes), f"{ours.bytes / theirs.bytes:.3f}", "< 1")


def largest(options, table, name, peaks):
    """Rows on the largest batch of a path."""
    sizes = {system: {count: peak.bytes for count, peak in found.items()} for system, found in peaks.items()}
    ends = {}
    for system, found in sizes.items():
        measure = lambda count: options.peak(name, system, count).bytes
        ends[system] = largest_batch(measure, found, options.limit)
    for other, what in FULL.items():
        table.section(f"Largest batch whose step fits {mebibytes(options.limit)} | {what}")
        pair = ("esta", other)
        (ours, _), (theirs, _) = (ends[system] for system in pair)
        found = [images(*ends[system]) for system in pair]
        table.row(f"{name}: largest batch", *found, f"{ours / max(theirs, 1):.2f}", "> 1")
        for end, words in enumerate(("peak of that run", "peak of a run of one image more")):
            at_end = [sizes[system].get(ends[system][end], math.nan) for system in pair]
            table.row(f"{name}: {words}", *map(mebibytes, at_end))
        slopes = [line(sizes[system])[1] for system in pair]
        table.row(f"{name}: each image more", *map(mebibytes, slopes), f"{slopes[0] / slopes[1]:.3f}")


def images(within, beyond):
    return f"{within} images" if beyond == within + 1 else f"{within} images or more"


def rows_of(table, *command):
    """Rows that a program measures and prints, one JSON object per line."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        for entry in map(json.loads, program.stdout):
            table.section(entry["section"]) if "section" in entry else table.row(*entry["row"])
    if program.returncode:
        sys.exit(f"bench: {command[0]} ended with {program.returncode}")


def law(options, table):
    rows_of(table, options.programs / "examples" / "bench_law")


def load(options, table):
    """A coordinator under thousands of simulated ranks."""
    rows_of(table, options.programs / "esta-load")


def soak(options, table):
    """The coordinator's memory over a million steps; plans in hand, and a kill, after a hundred thousand."""
    parts = ("--only=soak", "--only=waits", "--wait-steps=100000", "--only=restart", "--history=100000")
    rows_of(table, options.programs / "esta-load", *parts)


def coordinate(options, table):
    """A real run of the quickstart's family."""
    coordination.measure(options.programs, table)


def simulate(options, table):
    """The laws in virtual time."""
    laws.measure(options.programs, table, options.seeds)


def kill(options, table):
    """Real runs that lose a process."""
    kills.measure(options.programs, table, options.kills)


PARTS = {
    "step": against_pytorch,
    "text-step": text_against_pytorch,
    "lora-step": lora_against_peft,
    "watched-step": watched_against_not,
    "reduce": exact_against_float,
    "memory": memory,
    "law": law,
    "simulated": simulate,
    "coordination": coordinate,
    "kills": kill,
    "load": load,
    "soak": soak,
}
# Many minutes: measured where it is asked for.
LONG = {"soak"}


class Options(argparse.Namespace):
    def worker(self, threads=1, **environment):
        # As the program sets it: the same slot gives the same bits wherever its tensors lie.
        command = [self.programs / "examples" / "bench_step"]
        return Child(command, self.device, threads, MKL_CBWR="AUTO,STRICT", **environment)

    def pytorch(self, threads=1, **environment):
        return Child([sys.executable, "-W", "ignore", str(HERE / "step.py")], self.device, threads, **environment)

    def peft(self, threads=1, **environment):
        return Child([sys.executable, "-W", "ignore", str(HERE / "lora.py")], self.device, threads, **environment)

    def case(self, case, **rest):
        texts = dict(texts=self.texts, tokenizer=self.tokenizer) if self.tokenizer else {}
        return dict(case, digits=self.digits, **texts, **rest)

    def request(self, name):
        return f"steps {self.steps if name.startswith('quickstart') else max(1, self.steps // 25)}"

    def peak(self, name, system, count):
        return self._peak(name, system, count, 1, GIVE_BACK)

    def peak_kept(self, name, system, count):
        return self._peak(name, system, count, SETTLED, {})

    def lora_peak(self, program, case):
        return step_peak(self._starts(program, GIVE_BACK), self.case(case), self.device)

    def _starts(self, program, environment):
        """Of a fresh process whose peak is measured. Not timed: it may use all processors."""
        return functools.partial(getattr(self, program), len(os.sched_getaffinity(0)), **environment)

    def _peak(self, name, system, count, steps, environment):
        program, rest = SYSTEMS[system]
        start = self._starts(program, environment)
        peak = step_peak(start, self.case(cases.MEMORY[name], images=count, **rest), self.device, steps)
        print(f"bench: {name}, {count} images, {system}: {mebibytes(peak.bytes)}", file=sys.stderr, flush=True)
        return peak


def size(text):
    """Bytes, such as 4GiB."""
    number, unit = text[:-3], text[-3:]
    return int(float(number) * {"MiB": 2**20, "GiB": 2**30}[unit])


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, required=True, help="where cargo puts binaries and examples")
    parser.add_argument("--digits", required=True, help="digits.csv.gz")
    parser.add_argument("--texts", help="documents as JSON lines")
    parser.add_argument("--tokenizer", help="a folder with their tokenizer")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=50, help="steps of a round for small models")
    parser.add_argument("--seeds", type=int, default=1000, help="simulated runs")
    parser.add_argument("--kills", type=int, default=30, help="workers that are killed; a third as many leaders")
    parser.add_argument("--reduces", type=int, default=30)
    parser.add_argument("--images", type=int, nargs="+", help="batches whose peak is measured, two or more")
    largest = "paths whose largest batch is sought"
    parser.add_argument("--largest", choices=cases.MEMORY, nargs="*", default=cases.LARGEST, help=largest)
    parser.add_argument("--memory", dest="limit", type=size, help="what that has to fit: 4GiB, or the whole card")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts instead of all short ones")
    options = parser.parse_args(namespace=Options())
    options.images = options.images or cases.MEMORY_IMAGES[options.device]
    options.limit = options.limit or (size("4GiB") if options.device == "cpu" else Card.query("memory.total"))
    return options


def main():
    options = parse()
    table = Table()
    for name in options.only or [part for part in PARTS if part not in LONG]:
        try:
            PARTS[name](options, table)
        except Ended as ended:
            sys.exit(f"bench: {ended}")
    print(table)


main()
