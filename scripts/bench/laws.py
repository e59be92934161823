"""What the coordinator's and the workers' laws come to in virtual time: rows D2, D4 and F10."""

import json
import subprocess


def lines(programs, *arguments):
    answer = subprocess.run([programs / "esta-sim", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout
    return answer.splitlines()


def measure(programs, table, seeds):
    reports(programs, table)
    faults(programs, table, seeds)
    useful(programs, table)


def reports(programs, table):
    table.section("Reports under four leaders, in virtual time | equal to a serial replay, bit for bit")
    found = json.loads(lines(programs, "reports")[-1])
    tally = found["tally"]
    what = f"D2 {tally['reports']:,} reports heard, {tally['doubled']:,} doubled, {tally['overtaken']:,} out of order"
    table.row(what, f"{found['seconds']:.1f} s", str(found["equal"]).lower(), "", "true")


def faults(programs, table, seeds):
    table.section("Simulated runs under deaths, pauses, partitions, lies and slow disks | invariants hold")
    last = lines(programs, "--seeds", str(seeds))[-1]
    held, rest = last.split(" seeds hold: ")
    table.row(f"D4 {rest}", held, "", "", "all")


def useful(programs, table):
    for slots in (300, 30):
        table.section(f"Share of useful work, 30 workers and {slots} slots in virtual time | e^(-step/MTBF)")
        useful_of(programs, table, slots)


def useful_of(programs, table, slots):
    for line in lines(programs, "useful", "--slots", str(slots), "--json"):
        share = json.loads(line)["share"]
        what = f"F10 step / MTBF {share['ratio']:.2f}, {share['failures']} failures in {share['steps']} steps"
        table.row(what, f"{share['share']:.3f}", f"{share['floor']:.3f}", f"{share['of_floor']:.3f}", ">= 0.95")
