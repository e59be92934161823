"""What coordination costs a real run: one coordinator, two workers, real gRPC and Gloo on this machine.

Prints the trainer's wait for its next plan, the share that is of a 100 ms step, and how long ranks idle at the barrier
because their slots differ in cost. Uses the quickstart's family and target; needs its anchors.
"""

import argparse
import json
import os
import socket
import subprocess
import tempfile
from pathlib import Path

TARGET_STEP_US = 100_000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(binary, arguments, log, **environment):
    with open(log, "w") as stderr:
        return subprocess.Popen(
            [binary, *arguments], stderr=stderr, stdout=subprocess.DEVNULL, env={**os.environ, **environment}
        )


def run(options, folder):
    address = f"127.0.0.1:{free_port()}"
    overrides = [f"train.max_steps={options.steps}", f"output_dir={folder}/run", "eval.stitches=none", "eval.export=false"]
    serve = ["serve", "--config", options.config, "--listen", address, "--workers", "2"]
    serve += [word for override in overrides for word in ("--set", override)]
    processes = [start(options.coordinator, serve, folder / "coordinator.log")]
    for rank in range(2):
        train = ["train", "--coordinator", f"http://{address}", "--name", f"w{rank}", "--host", "127.0.0.1"]
        processes.append(start(options.worker, train, folder / f"w{rank}.log", RUST_LOG="esta_worker=debug"))
    try:
        for process in processes:
            if process.wait(timeout=options.timeout) != 0:
                raise SystemExit(f"bench: {process.args[0]} ended with {process.returncode}, see {folder}")
    finally:
        for process in processes:
            process.kill()
    return [steps(folder / f"w{rank}.log", options.warm) for rank in range(2)]


def steps(log, warm):
    lines = (json.loads(line)["fields"] for line in log.read_text().splitlines() if '"step applied"' in line)
    return [line for line in lines if line["step"] >= warm]


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def report(ranks):
    waits = [line["plan_us"] for rank in ranks for line in rank]
    pairs = list(zip(*ranks))
    longest = sum(max(line["compute_us"] for line in pair) for pair in pairs)
    busy = sum(line["compute_us"] for pair in pairs for line in pair) / 2
    whole = sum(line[part] for line in ranks[0] for part in ("plan_us", "batch_us", "compute_us", "reduce_us", "apply_us"))
    mean = lambda part: sum(line[part] for rank in ranks for line in rank) / len(waits)
    rows = [
        ("steps measured, two workers", f"{len(pairs)}", ""),
        ("step", f"{whole / len(pairs) / 1000:.1f} ms", ""),
        ("wait for the next plan, p50", f"{quantile(waits, 0.5)} us", ""),
        ("wait for the next plan, p99", f"{quantile(waits, 0.99)} us", "goal <= 50 us"),
        ("share of a 100 ms step", f"{100 * mean('plan_us') / TARGET_STEP_US:.3f} %", "goal <= 0.5 %"),
        ("barrier idle with mixed stitches", f"{100 * (1 - busy / longest):.1f} %", "goal <= 5 %"),
        ("mean batch wait / compute / reduce / apply",
         " / ".join(f"{mean(part) / 1000:.2f}" for part in ("batch_us", "compute_us", "reduce_us", "apply_us")) + " ms", ""),
    ]
    print("\ncoordination of a real run")
    for name, value, goal in rows:
        print(f"  {name:<44} {value:>28}  {goal}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinator", required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--config", default="configs/quickstart/target.yaml")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--warm", type=int, default=50, help="steps left out at the front")
    parser.add_argument("--timeout", type=float, default=600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report(run(options, Path(folder)))


main()
