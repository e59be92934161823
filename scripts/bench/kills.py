"""How long real runs stand still when one of their processes is killed or stopped."""

import json
import subprocess


def measure(programs, table, rounds):
    table.section("A process is killed or stopped, small steps, one machine | p50, slowest of so many")
    figures = json.loads(subprocess.run(
        [programs / "esta-trials", "kills", "--rounds", str(rounds)], stdout=subprocess.PIPE, check=True
    ).stdout)
    for figure in figures:
        times = sorted(figure["ms"])
        middle, slowest = times[len(times) // 2], times[-1]
        goal = figure["goal_ms"] and f"<= {figure['goal_ms']:.0f} ms"
        table.row(f"{figure['id']} {figure['what']}", f"{middle:.1f} ms", f"{slowest:.1f} of {len(times)}", "", goal or "")
