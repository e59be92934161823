"""What a manual page says where: its names, sections, list entries and prototypes, and the page as plain text."""

import gzip
import re
from dataclasses import dataclass

from roff import read_page

PROTOTYPE = re.compile(r"(?P<type>[A-Za-z_][\w ]*?[ *]+(?:restrict )?)(?P<name>[A-Za-z_]\w*)\((?P<arguments>.*)\);")
ARGUMENT = re.compile(r"(?P<type>[A-Za-z_][\w ]*?[ *]+(?:restrict )?)(?P<name>[a-z_]\w*)")
KEYWORDS = {"char", "const", "double", "float", "int", "long", "short", "unsigned", "void"}


@dataclass
class Page:
    """A manual page."""

    key: str  # name and section, as its file is called
    names: list  # what its NAME line names, in order
    purpose: str  # what that line says of them
    blocks: list

    def section(self, name):
        return [block for block in self.blocks if block.section == name and block.kind != "heading"]


@dataclass
class Prototype:
    name: str
    type: str
    arguments: list
    header: str | None  # that declares it, where it is plain which
    lines: tuple  # of the synopsis: from its header or its first line to its last


def load_pages(folder):
    """The pages in the order of their names, without those that only refer to another."""
    pages = []
    paths = [path for path in folder.glob("**/man[1-8]/*.gz") if not path.is_symlink()]
    for path in sorted(paths, key=lambda path: path.name):
        source = decode(gzip.decompress(path.read_bytes()))
        if re.match(r"\.so ", source):
            continue
        blocks = read_page(source)
        name = " ".join(lines_of([block for block in blocks if block.section == "NAME" and block.kind != "heading"]))
        names, _, purpose = name.partition(" - ")
        pages.append(Page(path.name.removesuffix(".gz"), [part.strip() for part in names.split(",")], purpose, blocks))
    return pages


def decode(content):
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def text_of(page):
    """The page as plain text: its title, then headings and one line for every paragraph."""
    name, _, section = page.key.rpartition(".")
    lines = [f"{name}({section})"]
    for block in page.blocks:
        lines += ["", block.text] if block.kind == "heading" else lines_of([block])
    return "\n".join(lines) + "\n"


def lines_of(blocks):
    """As the page prints: what a tag explains stands in by two."""
    return [("  " if block.tag and block.kind == "paragraph" else "") + block.text for block in blocks]


def entries_of(blocks):
    """Blocks by list entry, each tag with its paragraphs; every other block alone."""
    groups = []
    for block in blocks:
        entry = groups[-1][0] if groups else None
        if entry and entry.kind == "tag" and block.kind == "paragraph" and block.tag == entry.tag:
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


def declarations(page):
    """The lines of the synopsis before it says which macros to define."""
    lines = []
    for line in lines_of(page.section("SYNOPSIS")):
        if line.startswith("Feature Test Macro"):
            break
        lines.append(line)
    return lines


def prototypes(lines):
    """The functions that the lines declare."""
    found, headers, text, start, opened = [], [], "", 0, 0
    for at, line in enumerate(lines):
        bare = re.sub(r"/\*.*?\*/", "", line).strip()
        if include := re.match(r"#include\s*(<[^>]+>)", bare):
            if text or (found and found[-1].lines[1] >= opened):
                headers, opened = [], at  # a new group of includes
            headers = headers or []
            if "Definition of" not in line and "efinition" not in line:
                headers.append(include[1])
            text = ""
            continue
        if not text:
            start = at
        text = f"{text} {bare}".strip()
        if not bare.endswith(";"):
            text = text if bare and "(" in text and ")" not in bare[-1:] else ""
            continue
        declared = PROTOTYPE.fullmatch(re.sub(r"\[\[\w+\]\] *|\bextern ", "", text))
        text = ""
        if declared and not re.match(r"(typedef|struct|return|define|union)\b[^*]*;?$", declared["type"]):
            arguments = split_arguments(declared["arguments"])
            header = headers[0] if len(headers) == 1 else None
            first = opened if header else start
            kind = " ".join(declared["type"].split())
            found.append(Prototype(declared["name"], kind, arguments, header, (first, at)))
    return found


def split_arguments(text):
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    parts = [" ".join(part.split()) for part in parts]
    return [] if parts in (["void"], [""]) else parts


def named(arguments):
    """(type, name) of the arguments that are plainly a type and a name."""
    matches = (ARGUMENT.fullmatch(argument) for argument in arguments)
    return [(match["type"].strip(), match["name"]) for match in matches if match and match["name"] not in KEYWORDS]


def functions(page):
    """The functions of the page: named by its NAME line and declared by its synopsis."""
    declared = {proto.name for proto in prototypes(declarations(page))}
    return [name for name in page.names if name in declared]
