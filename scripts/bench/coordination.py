"""What coordination costs a real run: one coordinator, two workers, real gRPC and Gloo on this machine.

The trainer's wait for its next plan, the share that is of a 100 ms step, and how long ranks idle at the barrier because
their slots differ in cost. Uses the quickstart's family and target; needs its anchors.
"""

import itertools
import json
import os
import socket
import subprocess
import tempfile
from pathlib import Path

CONFIG = "configs/quickstart/target.yaml"
ANCHOR = Path(".cache/anchors/l")
WORKERS = 2
STEPS = 600
# Steps left out at the front.
WARM = 50
# Slots of a step, one run each.
SLOTS = (4, 8)
TIMEOUT_S = 600
TARGET_STEP_US = 100_000


def measure(programs, table):
    table.section("Coordination of a real run, two workers | if every rank drew for itself")
    if not ANCHOR.exists():
        table.row("not measured: 'make quickstart' makes the anchors it needs", "")
        return
    with tempfile.TemporaryDirectory() as folder:
        for slots in SLOTS:
            ranks = run(programs, slots, Path(folder) / str(slots))
            if slots == SLOTS[0]:
                waits(table, ranks)
            barrier(table, ranks, slots)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(binary, arguments, log, **environment):
    with open(log, "w") as stderr:
        return subprocess.Popen(
            [binary, *arguments], stderr=stderr, stdout=subprocess.DEVNULL, env={**os.environ, **environment}
        )


def run(programs, slots, folder):
    """The applied steps of each rank."""
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    overrides = [f"train.max_steps={STEPS}", f"output_dir={folder}/run", "eval.stitches=none", "eval.export=false"]
    overrides.append(f"sampling.slots={slots}")
    serve = ["serve", "--config", CONFIG, "--listen", address, "--workers", str(WORKERS)]
    serve += [word for override in overrides for word in ("--set", override)]
    processes = [start(programs / "esta-coordinator", serve, folder / "coordinator.log")]
    for rank in range(WORKERS):
        train = ["train", "--coordinator", f"http://{address}", "--name", f"w{rank}", "--host", "127.0.0.1"]
        processes.append(start(programs / "esta-worker", train, folder / f"w{rank}.log", RUST_LOG="esta_worker=debug"))
    try:
        for process in processes:
            if process.wait(timeout=TIMEOUT_S) != 0:
                raise SystemExit(f"bench: {process.args[0]} ended with {process.returncode}: {last_line(folder)}")
    finally:
        for process in processes:
            process.kill()
    return [steps(folder / f"w{rank}.log") for rank in range(WORKERS)]


def last_line(folder):
    """What the programs said last."""
    lines = (log.read_text().splitlines()[-1:] for log in sorted(folder.glob("*.log")))
    return " ".join(itertools.chain.from_iterable(lines))


def steps(log):
    lines = (json.loads(line) for line in log.read_text().splitlines() if '"step applied"' in line)
    return [line for line in lines if line["step"] >= WARM]


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def idle(loads):
    """Share of the ranks' time spent waiting for the slowest; `loads` has the busy time of each rank, per step."""
    longest = sum(max(load) for load in loads)
    return 1 - sum(sum(load) / len(load) for load in loads) / longest


def slot_times(pair):
    """The compute times of a step's slots, by slot, whoever ran them."""
    return dict(tuple(entry) for line in pair for entry in json.loads(line["slots"].translate(BRACKETS)))


BRACKETS = str.maketrans("()", "[]")


def drawn_alone(times, ranks):
    """Busy times if every rank had drawn as many stitches for itself, as in data-parallel training of SN-Net."""
    share = len(times) // ranks
    return [sum(times[slot] for slot in range(rank * share, (rank + 1) * share)) for rank in range(ranks)]


def best_packing(times, ranks):
    """Busy times of the assignment that would have been shortest, known only afterwards."""
    def loads(ranks_of_slots):
        return [sum(time for time, rank in zip(times.values(), ranks_of_slots) if rank == r) for r in range(ranks)]
    return min(map(loads, itertools.product(range(ranks), repeat=len(times))), key=max)


def percent(share):
    return f"{100 * share:.1f} %"


PARTS = ("plan_us", "batch_us", "compute_us", "reduce_us", "apply_us")


def waits(table, ranks):
    """What plans cost the trainer, and where a step's time goes."""
    lines = [line for rank in ranks for line in rank]
    plans = [line["plan_us"] for line in lines]
    mean = {part: sum(line[part] for line in lines) / len(lines) for part in PARTS}
    table.row(f"step of {SLOTS[0]} slots, mean of {len(ranks[0])}", f"{sum(mean.values()) / 1000:.1f} ms")
    parts = " / ".join(f"{mean[part] / 1000:.1f}" for part in PARTS[1:])
    table.row("  of which batch / compute / reduce / apply", f"{parts} ms")
    table.row("wait for the next plan, p50", f"{quantile(plans, 0.5)} us")
    table.row("wait for the next plan, p99", f"{quantile(plans, 0.99)} us", goal="<= 50 us")
    share = f"{100 * mean['plan_us'] / TARGET_STEP_US:.3f} %"
    table.row("that wait as a share of a 100 ms step", share, goal="<= 0.5 %")


def barrier(table, ranks, slots):
    """How long ranks wait for the slowest of a step, as packed and as it could have been."""
    pairs = list(zip(*ranks))
    times = [slot_times(pair) for pair in pairs]
    packed = idle([[line["compute_us"] for line in pair] for pair in pairs])
    alone, best = (idle([way(step, WORKERS) for step in times]) for way in (drawn_alone, best_packing))
    what = f"idle at the barrier, {slots} slots of mixed stitches"
    table.row(what, percent(packed), percent(alone), f"{packed / alone:.3f}", "<= 5 %")
    table.row("  the best packing, known only afterwards", percent(best))
