"""Reads manual pages in roff's man(7) macros into plain blocks of text: what `manpages.py` makes data of.

It knows what the pages of Linux use: headings, paragraphs, tagged lists, examples, tables (a row becomes one line),
fonts (dropped), strings, conditions (as on a terminal) and the escapes for characters. It computes nothing.
"""

import re
from dataclasses import dataclass

CHARACTERS = {
    "aq": "'", "dq": '"', "lq": '"', "rq": '"', "oq": "'", "cq": "'", "ga": "`", "ha": "^", "ti": "~", "bu": "*",
    "em": "--", "en": "-", "mi": "-", "mc": "u", "sc": "section", "sd": '"', "fm": "'", "de": " degrees", "ra": "right",
    "la": "left", "dg": "*", "rs": "\\", "ba": "|", "or": "|", "at": "@", "sh": "#", "Do": "$", "+-": "+-", "mu": "x",
    "<=": "<=", ">=": ">=", "!=": "!=", "->": "->", "<-": "<-", "co": "(c)", "shc": "", "hy": "-", "lB": "[", "rB": "]",
    "lC": "{", "rC": "}", "sl": "/", "pl": "+", "eq": "=", "if": "infinity", "*p": "pi",
}  # fmt: skip
ACCENTS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", ":": "\u0308"}
ESCAPE = re.compile(
    r"""\\(?:
      f(?:\((?P<f2>..)|\[[^\]]*\]|.)                  # font
    | \((?P<two>..) | \[(?P<long>[^\]]*)\]            # character by name
    | \*(?:\((?P<s2>..)|\[(?P<sl>[^\]]*)\]|(?P<s1>.)) # string
    | n[+-]?(?:\(..|\[[^\]]*\]|.)                     # register
    | s[+-]?(?:\d|\(..|\[[^\]]*\]|'[^']*')            # size
    | [wvhlLbDXZo]'[^']*'                             # measures and drawing
    | N'(?P<code>\d+)'
    | (?P<one>.) | $)""",
    re.VERBOSE,
)
ONE = {
    "-": "-",
    "e": "\\",
    "\\": "\\",
    " ": " ",
    "~": " ",
    "0": " ",
    "t": "\t",
    "'": "'",
    "`": "`",
    ".": ".",
    "E": "\\",
}
ALTERNATING = {"BR", "RB", "BI", "IB", "IR", "RI"}
FONTS = ALTERNATING | {"B", "I", "SM", "SB"}
PARAGRAPHS = {"PP", "P", "LP", "HP", "RS", "RE", "in", "sp"}
ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|((?:\\.|[^\s\\])+)')


@dataclass
class Block:
    """A piece of a page that prints as one line."""

    section: str  # the heading it stands under
    kind: str  # heading, paragraph, tag, line (of an example or synopsis) or row (of a table)
    text: str
    tag: str = ""  # of a list entry's paragraphs: what they explain


def read_page(source):
    """The blocks of a page, in order."""
    reader = Reader()
    for line in prepared(source.splitlines()):
        reader.line(line)
    reader.flush()
    return reader.blocks


def prepared(lines):
    """The lines with comments, macro definitions and untaken conditions gone and continued lines joined."""
    held, defining, taken, depth = "", False, True, 0
    for line in lines:
        if defining:
            defining = line.rstrip() != ".."
            continue
        line = held + re.sub(r'(?<!\\)((?:\\\\)*)\\".*', r"\1", line)
        held = ""
        if re.search(r"(?<!\\)(?:\\\\)*\\$", line):
            held = line[:-1]
            continue
        if line.startswith((".de ", ".de1 ", ".am ")):
            defining = True
            continue
        if depth:  # inside braces that are not taken
            depth += line.count(r"\{") - line.count(r"\}")
            continue
        if condition := re.match(r"[.'](?:(ie|if)\s+(!?\S+)|(el))\s*(.*)", line):
            taken = not taken if condition[3] else condition[2] == "n"
            line = condition[4]
            if not taken:
                depth = line.count(r"\{") - line.count(r"\}")
                continue
        yield line.replace(r"\{", "").replace(r"\}", "")


def arguments(text):
    return [quoted.replace('""', '"') or plain for quoted, plain in ARGUMENT.findall(text)]


class Reader:
    """Where the reading of one page stands."""

    def __init__(self):
        self.blocks, self.strings = [], {"lq": '"', "rq": '"', "R": "(R)", "Tm": "(TM)"}
        self.section, self.tag, self.address = "", "", ""
        self.words = ""  # the paragraph so far
        self.fill, self.wants_tag, self.more_tags, self.joins = True, False, False, False
        self.table = None  # its lines, within one

    def line(self, line):
        macro = re.match(r"[.']\s*(\w+|\.)?\s*(.*)", line)
        name = (macro[1] or "") if macro else None
        if self.table is not None and name != "TE":
            self.table.append(line)
        elif name is None:
            self.text(line)
        elif name in FONTS or name == "q":
            self.printed(self.inline(name, macro[2]))
        else:
            self.request(name, macro[2])

    def request(self, name, rest):
        if name in ("SH", "SS"):
            self.heading(name, self.expand(" ".join(arguments(rest))).strip())
        elif name in ("TP", "TQ"):
            self.flush()
            self.wants_tag, self.more_tags = True, name == "TQ"
        elif name == "IP":
            self.flush()
            self.entry(self.expand(arguments(rest)[0]) if arguments(rest) else "")
        elif name in PARAGRAPHS:
            self.flush()
            self.tag = self.tag if name in ("sp", "in", "RS") else ""
        elif name in ("nf", "EX", "fi", "EE", "br", "SY", "YS"):
            self.flush()
            self.fill = {"nf": False, "EX": False, "fi": True, "EE": True}.get(name, self.fill)
            if name == "SY":
                self.printed(self.expand(rest))
        elif name in ("UR", "MT"):
            self.address = self.expand(rest)
        elif name in ("UE", "ME"):
            self.printed(f"<{self.address}>{self.expand(rest)}")
        elif name == "OP":
            self.printed(f"[{self.expand(' '.join(arguments(rest)))}]")
        elif name == "ds":
            key, _, value = rest.partition(" ")
            self.strings[key] = value
        elif name == "TS":
            self.flush()
            self.table = []
        elif name == "TE" and self.table is not None:
            self.rows()

    def heading(self, name, text):
        self.flush()
        self.tag, self.fill, self.wants_tag = "", True, False
        self.section = text if name == "SH" else self.section
        self.blocks.append(Block(self.section, "heading", text))

    def inline(self, name, rest):
        words = arguments(rest)
        if name == "q":
            return self.expand(f'"{words[0]}"' + "".join(words[1:]))
        return self.expand(("" if name in ALTERNATING else " ").join(words))

    def expand(self, text):
        return ESCAPE.sub(self.character, text)

    def character(self, found):
        name = found["two"] or found["long"]
        if name:
            if re.fullmatch(r"u[0-9A-F]{4,5}", name):
                return chr(int(name[1:], 16))
            if len(name) == 2 and name not in CHARACTERS and (name[0] in ACCENTS or name[1] in ACCENTS):
                return name[1] + ACCENTS[name[0]] if name[0] in ACCENTS else name[0] + ACCENTS[name[1]]
            return CHARACTERS.get(name, "")
        if string := found["s2"] or found["sl"] or found["s1"]:
            return self.expand(self.strings.get(string, ""))
        if found["code"]:
            return chr(int(found["code"]))
        if found["one"] == "c":
            return "\0"  # the next text follows without a space
        return ONE.get(found["one"] or "", "")

    def text(self, line):
        if not line.strip():
            self.flush()
            return
        if line[0] in " \t" and self.fill:
            self.flush()
        self.printed(self.expand(line))

    def printed(self, text):
        """Text goes to the tag that is waited for, to the paragraph, or where nothing is filled, to a line."""
        joins, text = text.endswith("\0"), text.replace("\0", "")
        if self.wants_tag:
            self.words += text
            if not joins:
                self.wants_tag = False
                tag, self.words = self.words.strip(), ""
                self.entry(f"{self.tag}, {tag}" if self.more_tags and self.tag else tag)
        elif self.fill:
            self.words += ("" if self.joins or not self.words else " ") + text
            self.joins = joins
        else:
            self.words += text.expandtabs()
            if not joins:
                self.flush()

    def entry(self, tag):
        """A list entry begins; a bullet or number prints before its text, a longer tag on a line of its own."""
        self.tag = " ".join(tag.split())
        if self.tag and len(self.tag) <= 3:
            self.words, self.tag = self.tag, ""
        elif self.tag:
            if self.more_tags and self.blocks[-1].kind == "tag":
                self.blocks.pop()
            self.blocks.append(Block(self.section, "tag", self.tag, self.tag))
        self.more_tags = False

    def flush(self):
        """Ends the paragraph or line."""
        text = " ".join(self.words.split()) if self.fill else self.words.rstrip()
        self.words, self.joins = "", False
        if text:
            self.blocks.append(Block(self.section, "paragraph" if self.fill else "line", text, self.tag))

    def rows(self):
        lines, self.table = self.table, None
        options = lines[0] if lines and lines[0].rstrip().endswith(";") else ""
        tab = found[1] if (found := re.search(r"tab\s*\((.)\)", options)) else "\t"
        cell, formats = None, True
        row = ""
        for line in lines[1:] if options else lines:
            if formats:
                formats = not line.rstrip().endswith(".")
                continue
            if line.startswith(".T&"):
                formats = True
                continue
            if cell is not None and not line.startswith("T}"):
                macro = re.match(r"\.(\w+)\s*(.*)", line)
                text = self.expand(line) if not macro else self.inline(*macro.groups()) if macro[1] in FONTS else ""
                cell.append(text.replace("\0", ""))
                continue
            if line.startswith("T}"):
                row, line, cell = row + " ".join(cell), line[2:], None
            if line.rstrip().endswith("T{"):
                row, cell = row + self.expand(line.rstrip()[:-2]), []
                continue
            macro = re.match(r"\.(\w+)\s*(.*)", line)
            row += self.inline(*macro.groups()) if macro and macro[1] in FONTS else "" if macro else self.expand(line)
            cells = [" ".join(part.split()) for part in row.replace("\0", "").split(tab)]
            row = ""
            if any(cells) and not set("".join(cells)) <= set("_="):
                self.blocks.append(Block(self.section, "row", " | ".join(cells)))
