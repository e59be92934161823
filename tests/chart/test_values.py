"""Every value of the chart shows where it should, and what shows is there for it alone."""

import importlib
import json
import re
import unittest

from checks import flaws
from engines import CHART, NEWEST, Refused, find, nested, overlay, render
from places import TABLES

# Values that no row is for: the tests that are, or why there is none.
ELSEWHERE = {
    "run.attempt": "test_upgrades.Upgrades.test_another_attempt_of_the_run_begins_anew",
    "workers.attempt": "test_upgrades.Upgrades.test_another_attempt_of_the_workers_is_another_job_of_the_same_run",
    "global": None,  # Helm's own: the chart reads none of it
}


def together(below, rows):
    for value, given, _, _ in rows:
        below = overlay(below, nested(value, given))
    return below


def stands(found, place, expected):
    there = find(found, place)
    if isinstance(expected, re.Pattern):
        return bool(expected.fullmatch(there or "")), there
    return there == expected, there


def leaves(schema, path=()):
    """Every value that the schema describes."""
    if "properties" not in schema:
        return {".".join(path)}
    return set().union(*(leaves(below, (*path, name)) for name, below in schema["properties"].items()))


class Values(unittest.TestCase):
    def test_each_is_where_it_belongs(self):
        for name, (scenario, below, rows) in TABLES.items():
            found = render(scenario, together(below, rows))
            for value, _, place, expected in rows:
                with self.subTest(name, value=value, place=place):
                    right, there = stands(found, place, expected)
                    self.assertTrue(right, f"{there!r} is not {expected!r}")

    def test_what_they_make_is_strictly_valid(self):
        for name, (scenario, below, rows) in TABLES.items():
            with self.subTest(name):
                self.assertEqual(flaws(render(scenario, together(below, rows)), NEWEST), [])

    def test_every_value_has_a_row(self):
        known = leaves(json.loads((CHART / "values.schema.json").read_text()))
        rowed = {row[0] for _, _, rows in TABLES.values() for row in rows}
        self.assertEqual(rowed - known, set(), "there are no such values")
        self.assertEqual(rowed & ELSEWHERE.keys(), set())
        self.assertEqual(known - rowed, ELSEWHERE.keys())
        for name in filter(None, ELSEWHERE.values()):
            module, kind, test = name.split(".")
            self.assertTrue(callable(getattr(getattr(importlib.import_module(module), kind), test)))


class Rows(unittest.TestCase):
    def test_none_stands_without_its_value(self):
        for name, (scenario, below, rows) in TABLES.items():
            for value, _, place, expected in rows:
                with self.subTest(name, value=value, place=place):
                    try:
                        found = render(scenario, together(below, [row for row in rows if row[0] != value]))
                    except Refused:
                        continue  # the others need it
                    self.assertFalse(stands(found, place, expected)[0], "this stands there without the value")


if __name__ == "__main__":
    unittest.main()
