"""Measures and prints one table. Whatever is compared runs in turn, A B A B, in one run; numbers are medians."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import cases

HERE = Path(__file__).parent


class Child:
    """A program that answers `word number` lines with JSON."""

    def __init__(self, command, case):
        environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.case = self.ask(json.dumps(case))

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"bench: {self.process.args[0]} ended with {self.process.wait()}")
        return json.loads(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


class Table:
    def __init__(self):
        self.rows = []

    def section(self, title):
        self.rows.append((title,))

    def row(self, what, ours, theirs="", ratio="", goal=""):
        self.rows.append((what, ours, theirs, ratio, goal))
        print("bench:", what, ours, theirs, ratio, file=sys.stderr, flush=True)

    def __str__(self):
        cells = [row for row in self.rows if len(row) > 1]
        widths = [max(len(row[column]) for row in cells) for column in range(5)]
        lines = []
        for row in self.rows:
            if len(row) == 1:
                lines.append("\n" + row[0])
                continue
            first, *rest = (cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(zip(row, widths)))
            lines.append(("  " + "  ".join([first, *rest])).rstrip())
        return "\n".join(lines)


def milliseconds(value):
    return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms"


def mebibytes(value):
    return f"{value / 2**20:.1f} MiB"


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


def against_pytorch(options, table):
    table.section("A worker's step, one slot, one thread | the same step in plain PyTorch")
    for name, case in cases.STEPS.items():
        with options.worker(case) as ours, Child([sys.executable, str(HERE / "step.py")], case) as theirs:
            if ours.case["trained"] != theirs.case["trained"]:
                sys.exit(f"bench: {name}: {ours.case['trained']} trained parameters here, {theirs.case['trained']} in PyTorch")
            compare(table, f"{name}, {case['images']} images", (ours, theirs), options.request(name), options.rounds, "<= 1.05")


def exact_against_float(options, table):
    table.section("Exact reduction, int64 | f32")
    for name, case in cases.REDUCTION.items():
        with options.worker(dict(case, reduce="int64")) as exact, options.worker(dict(case, reduce="f32")) as floating:
            pair = (exact, floating)
            last = compare(table, f"{name}: step", pair, options.request(name), options.rounds)
            compare(table, f"{name}: all-reduce of two ranks", pair, f"reduce {options.reduces}", options.rounds)
            sizes = [answer["bytes"] for answer in last]
            table.row(f"{name}: bytes reduced", *(f"{size / 1024:.1f} KiB" for size in sizes), f"{sizes[0] / sizes[1]:.3f}")


def memory(options, table):
    name, case = cases.MEMORY
    table.section("Peak memory of a training process, ESTA | everything trained")
    peaks = []
    for mode in ("pst", "snnet"):
        with options.worker(dict(case, mode=mode)) as child:
            peaks.append(child.ask("steps 2")["peak_rss"])
    table.row(f"{name} of ViT-Ti/S/B, {case['images']} images", *map(mebibytes, peaks), f"{peaks[0] / peaks[1]:.3f}")


def law(options, table):
    """Rows that the engine's own benchmark measures."""
    lines = subprocess.run([options.law], check=True, capture_output=True, text=True).stdout.splitlines()
    for line in map(json.loads, lines):
        table.section(line["section"]) if "section" in line else table.row(*line["row"])


PARTS = {"step": against_pytorch, "reduce": exact_against_float, "memory": memory, "law": law}


class Options(argparse.Namespace):
    def worker(self, case):
        return Child([self.step], dict(case, digits=self.digits))

    def request(self, name):
        return f"steps {self.steps if name.startswith('quickstart') else max(1, self.steps // 25)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", required=True, help="the example bench_step")
    parser.add_argument("--law", required=True, help="the example bench_law")
    parser.add_argument("--digits", required=True, help="digits.csv.gz")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=50, help="steps of a round for small models")
    parser.add_argument("--reduces", type=int, default=30)
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts instead of all")
    options = parser.parse_args(namespace=Options())
    table = Table()
    for name in options.only or PARTS:
        PARTS[name](options, table)
    print(table)


main()
