#!/usr/bin/env python3
"""Makes the chart's README.md and values.schema.json of the comments in its values.yaml.

    chart-docs.py [--check]

Comments above a key describe it. A line `# @schema {...}` among them says what a default cannot: JSON Schema's own words, and
three of ours: `open` (a mapping that Kubernetes knows, not we), `map: string` (names to texts), `names` (a pattern of those
names). `## Title` begins a section of the README. README.tmpl.md holds the rest of it. With --check nothing is written, and a
file that differs is an error.
"""

import json
import re
import sys
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parent.parent / "charts" / "esta"
TABLES = "<!-- values -->"
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


class Key:
    """One key of the values: where it is, what it is by default, and what is said of it."""

    def __init__(self, path, default, words, hints, section):
        self.path, self.default, self.words, self.hints, self.section = path, default, words, hints, section

    @property
    def is_group(self):
        """Whether the keys below it are described one by one."""
        closed = "open" not in self.hints and "map" not in self.hints
        return isinstance(self.default, dict) and bool(self.default) and closed


def keys_of(text):
    """Every described key, in the order of the file."""
    values = yaml.safe_load(text)
    keys, path, words, hints, section, inside = [], [], [], {}, "", None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("## "):
            section, words, hints = line[3:], [], {}
        elif (comment := re.match(r" *# ?(.*)", line)) and inside is None or comment and len(line) - len(line.lstrip()) <= inside:
            said = comment[1]
            if said.startswith("@schema "):
                hints = yaml.safe_load(said[len("@schema "):])
            else:
                words.append(said)
        elif key := re.match(r"( *)([A-Za-z0-9]+):", line):
            depth = len(key[1]) // 2
            if inside is not None and len(key[1]) > inside:
                continue  # below a key whose content is not ours to describe
            inside = None
            path = path[:depth] + [key[2]]
            default = values
            for name in path:
                default = default[name]
            known = Key(tuple(path), default, " ".join(words), hints, section)
            if not known.is_group and not known.words:
                raise SystemExit(f"values.yaml:{number}: {'.'.join(path)} is not described")
            keys.append(known)
            if not known.is_group:
                inside = len(key[1])
            words, hints = [], {}
        elif not line.strip():
            words, hints = [], {}
    return keys


def schema_of(key):
    """The schema of one key that is no group."""
    hints = dict(key.hints)
    kind = hints.pop("type", None) or TYPES[type(key.default)]
    schema = {"description": key.words, "type": kind}
    hints.pop("open", None)
    if (values := hints.pop("map", None)) is not None:
        names = hints.pop("names", None)
        schema |= {"patternProperties": {names: {"type": values}}} if names else {}
        schema["additionalProperties"] = False if names else {"type": values}
    if (items := hints.pop("items", None)) is not None:
        items = dict(items)
        if items.pop("open", False):
            items.setdefault("type", "object")
        schema["items"] = items
    return schema | hints


def whole_schema(keys):
    root = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the ESTA chart",
        "type": "object",
        "additionalProperties": False,
        "properties": {},
    }
    for key in keys:
        place = root
        for name in key.path[:-1]:
            place = place["properties"][name]
        if key.is_group:
            group = {"type": "object", "additionalProperties": False, "properties": {}}
            place["properties"][key.path[-1]] = ({"description": key.words} if key.words else {}) | group
        else:
            place["properties"][key.path[-1]] = schema_of(key)
    return json.dumps(root, indent=2, ensure_ascii=False) + "\n"


def cell(text):
    return text.replace("|", "\\|")


def tables(keys):
    lines, section = [], None
    for key in keys:
        if key.is_group:
            continue
        if key.section != section:
            section = key.section
            lines += ["", f"### {section}", "", "| key | default | |", "|---|---|---|"]
        default = json.dumps(key.default, ensure_ascii=False)
        choice = key.hints.get("enum")
        words = key.words
        if choice and isinstance(choice[0], str):
            words += " One of " + ", ".join(f"`{one}`" for one in choice) + "."
        lines.append(f"| `{'.'.join(key.path)}` | `{cell(default)}` | {cell(words)} |")
    return "\n".join(lines).strip()


def main():
    keys = keys_of((CHART / "values.yaml").read_text())
    template = (CHART / "README.tmpl.md").read_text()
    made = {
        CHART / "README.md": template.replace(TABLES, tables(keys)),
        CHART / "values.schema.json": whole_schema(keys),
    }
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if sys.argv[1:] == ["--check"]:
        for path in stale:
            print(f"{path.name} is not what values.yaml says: run scripts/chart-docs.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(made[path])
        print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
