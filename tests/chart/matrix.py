"""Prints what was validated, and how long the chart takes to render: the last lines of scripts/chart-test.sh."""

import platform
import subprocess
import sys

import helm_python

from checks import flaws
from engines import NEWEST, OLDEST, SCENARIOS, by_key, helm3, helm4, lint3, lint4, merged, seconds_to_render
from test_alerts import rules
from test_contradictions import CONTRADICTIONS, UNKNOWN

HEAD = ["scenario", "objects", "lint 3, 4", "equal", f"strict {OLDEST}", f"strict {NEWEST}", "render 3", "render 4"]


def verdict(fine):
    return "yes" if fine else "NO"


def row(scenario):
    values = merged(scenario)
    three, four = helm3(values), helm4(values)
    return [
        scenario.name.removesuffix("-values.yaml"),
        str(len(three)),
        f"{verdict(not lint3(scenario))}, {verdict(not lint4(scenario))}",
        verdict(by_key(three) == by_key(four)),
        verdict(not flaws(helm3(values, kube=OLDEST), OLDEST)),
        verdict(not flaws(three, NEWEST)),
        f"{seconds_to_render(scenario, helm3) * 1000:.0f} ms",
        f"{seconds_to_render(scenario, helm4) * 1000:.0f} ms",
    ]


def main():
    table = [HEAD, *map(row, SCENARIOS)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEAD))]
    three = subprocess.run(["helm", "version", "--template", "{{.Version}}"], capture_output=True, text=True, check=True).stdout
    print(f"\nHelm {three} (command line) and {helm_python.helm_sdk_version()} (library), Kubernetes {OLDEST} to {NEWEST}, {platform.machine()}")
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    print(f"{len(rules())} alerts, {len(CONTRADICTIONS)} contradictions and {len(UNKNOWN)} values that the schema refuses, in both engines")
    return int("NO" in str(table))


if __name__ == "__main__":
    sys.exit(main())
