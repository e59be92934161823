"""Questions that a piece of a manual page answers, found by rule: what `manpages.py` asks.

A piece is the lines that hold the answer and, around them, lines of other sections of the page, the sections in any
order: whoever copies the first line, or always looks at one place, is wrong most of the time.
"""

import hashlib
import random
import re
from dataclasses import dataclass

from manpage import declarations, entries_of, functions, lines_of, named, prototypes
from roff import Block

SEED = 5
LIMIT = 280  # characters of a piece, at most: what a model of minutes can read often enough
ROOM = 200  # of those, for the lines that hold the answer
ANSWER = 120  # characters of an answer, at most
# The wording tells the kind: `kind_of` reads it back.
QUESTIONS = {
    "purpose": "Describe {subject} in one line.",
    "header": "Which header declares {subject}()?",
    "return_type": "What is the return type of {subject}()?",
    "argument_count": "How many arguments does {subject}() take?",
    "argument_type": "What is the type of the argument {detail} of {subject}()?",
    "library": "Which option links the library of {subject}()?",
    "success": "What does {subject}() return on success?",
    "failure": "What does {subject}() return on error?",
    "error": "Which error of {subject}() has this cause? {detail}",
    "cause": "Why does {subject}() fail with {detail}?",
    "thread_safety": "How thread-safe is {subject}()?",
    "section": "Which section of the manual has {subject}?",
    "since": "Since which version of {detail} is there {subject}?",
}
# Where a piece says the answer, for the kinds whose answer can be exchanged.
PLACES = {
    "purpose": "(?<= - ){answer}$",
    "header": "(?<=#include ){answer}",
    "return_type": r"^{answer} ?(?={subject}\()",
    "argument_type": r"(?<=[(, ]){answer} ?(?={detail}\b)",
    "library": r"{answer}\b",
    "success": "{answer}",
    "failure": "{answer}",
    "error": "^{answer}$",
    "cause": "{answer}",
    "thread_safety": r"(?<=\| ){answer}$",
    "section": r"(?<=\b{subject}\(){answer}",
    "since": r"(?<={detail} ){answer}(?=[)\s])",
}
AROUND = ["NAME", "LIBRARY", "SYNOPSIS", "DESCRIPTION", "RETURN VALUE", "ERRORS", "ATTRIBUTES", "VERSIONS", "STANDARDS"]
AROUND += ["CONFORMING TO", "HISTORY", "NOTES", "BUGS", "CAVEATS", "SEE ALSO"]
REFERENCE = re.compile(r"\b([A-Za-z_][\w.-]*)\((\d)\w*\)")
SENTENCE = re.compile(r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bcf\.)(?<!\betc\.)(?<!\bvs\.) (?=[A-Z\"(]|\w+\(\))")
SUCCESS = r"(?i:(?:on|upon) (?:success|successful completion|successful return)|when successful),? "
FAILURE = r"(?i:on error|on failure|upon error|if an error occurs|in case of an? (?:error|failure)),? "
CLAUSE = re.compile(rf"; (?={FAILURE})")
ON_SUCCESS = re.compile(r"returns? (?P<what>[^.;,]+?) (?:on success|if successful)\b")
ON_FAILURE = re.compile(
    r"(?:or|and) (?:returns? )?(?P<what>[^.;,]+?) (?:on (?:error|failure)|if an error occurr?(?:s|ed))\b"
)
OTHERWISE = r"(?:,| and| with)+ (?:sets?|stores?|errno)\b|;|,? or (?=-1|NULL|a negative|a nonzero|an error)"
OF_ONE = re.compile(r"\((\w+)\(\)(?: only|,? (?:and |or )?\w+\(\))*\) ")  # before a cause: whose error it is
SPEAKERS = r".*?(?:\)|functions?|calls?|it|they|macros?|operations?)"
UNCLEAR = re.compile(r"[.;:&]|\b(return|as follows|if|If|same|or|depend|then|left|succeeds|is not)|end-of-file|\bto$")


@dataclass
class Item:
    """A question, the piece that answers it, and the answer."""

    kind: str
    page: str
    question: str
    piece: str
    answer: str


def questions(page):
    """All items of a page whose piece is not too long."""
    for read in (
        of_name,
        of_synopsis,
        of_library,
        of_return_value,
        of_errors,
        of_attributes,
        of_references,
        of_versions,
    ):
        yield from (item for item in read(page) if len(item.piece) <= LIMIT)


def kind_of(question):
    """The kind of a question by its wording, and what it asks about."""
    for kind, form in QUESTIONS.items():
        pattern = re.escape(form).replace(r"\{subject\}", "(?P<subject>.+)").replace(r"\{detail\}", "(?P<detail>.+)")
        if found := re.fullmatch(pattern, question):
            return kind, found.groupdict()
    return None, {}


def derivable(item):
    """Whether the piece holds the answer, in the form its kind asks for."""
    kind, about = kind_of(item.question)
    subject, piece, answer = about["subject"], item.piece, item.answer
    if kind == "purpose":
        subject = subject.removesuffix("()")
        return any(line.endswith(f" - {answer}") and subject in line for line in piece.splitlines())
    if kind in ("return_type", "argument_count", "argument_type"):
        found = [proto for proto in prototypes(piece.splitlines()) if proto.name == subject]
        said = {
            "return_type": lambda proto: proto.type,
            "argument_count": lambda proto: str(len(proto.arguments)),
            "argument_type": lambda proto: dict(map(reversed, named(proto.arguments))).get(about["detail"]),
        }[kind]
        return bool(found) and {said(proto) for proto in found} == {answer}
    if kind == "header":
        return f"#include {answer}" in piece and f"{subject}(" in piece
    if kind == "section":
        return {number for name, number in REFERENCE.findall(piece) if name == subject} == {answer}
    if kind == "error":
        return re.search(rf"^{answer}\b.*\n  (?:\(.*\) )?{re.escape(about['detail'])}", piece, re.MULTILINE) is not None
    return answer in piece


def retold(item, answers):
    """The item with another of the answers, put in the answer's place in its piece: whoever knows the page by heart and does
    not read the piece is wrong. None where the piece does not say the answer in one place alone.
    """
    kind, about = kind_of(item.question)
    if kind not in PLACES:
        return None
    draws = rng(item.page, "retold", item.question, item.piece)
    other = draws.choice(answers)
    if other == item.answer or other in item.piece:
        return None
    words = {name: re.escape(text) for name, text in about.items()}
    place = PLACES[kind].format(answer=re.escape(item.answer), **words)
    gap = " " if kind in ("return_type", "argument_type") and not other.endswith("*") else ""
    piece, count = re.subn(place, lambda _: other + gap, item.piece, flags=re.MULTILINE)
    changed = Item(kind, item.page, item.question, piece, other)
    return changed if count == 1 and len(piece) <= LIMIT and derivable(changed) else None


# What the kinds read.


def of_name(page):
    call = "()" if functions(page) else ""
    subjects = [name + call for name in page.names]
    if not page.purpose or len(page.purpose) > ANSWER or len(page.names) > 12:
        return
    needed = ("NAME", lines_of(page.section("NAME")))
    for subject in pick(subjects, 1, page.key):
        yield ask("purpose", page, answer=page.purpose, needed=needed, subject=subject)


def of_synopsis(page):
    lines = declarations(page)
    found = prototypes(lines)
    for name in dict.fromkeys(proto.name for proto in found):
        same = [proto for proto in found if proto.name == name]
        first, last = min(proto.lines[0] for proto in same), max(proto.lines[1] for proto in same)
        draws = rng(page.key, "synopsis", name)
        needed = ("SYNOPSIS", window(lines, first, last, draws.randint(ROOM // 2, ROOM), draws))
        facts = {(proto.type, proto.header) for proto in same}
        if len("\n".join(needed[1])) > ROOM or len(facts) > 1 or (name == "syscall" and page.key != "syscall.2"):
            continue
        if same[0].header:
            yield ask("header", page, answer=same[0].header, needed=needed, subject=name)
        yield ask("return_type", page, answer=same[0].type, needed=needed, subject=name)
        if len(same) > 1 or "..." in same[0].arguments:
            continue
        yield ask("argument_count", page, answer=str(len(same[0].arguments)), needed=needed, subject=name)
        for kind, argument in pick(named(same[0].arguments), 1, page.key + name):
            yield ask("argument_type", page, answer=kind, needed=needed, subject=name, detail=argument)


def of_library(page):
    lines = lines_of(page.section("LIBRARY"))
    options = re.findall(r"-l\w+", " ".join(lines))
    if len(options) != 1:
        return
    for name in functions(page):
        yield ask("library", page, answer=options[0], needed=("LIBRARY", lines), subject=name)


def of_return_value(page):
    section = page.section("RETURN VALUE") or page.section("RETURN VALUES")
    lines, known = lines_of(section), functions(page)
    sentences = [sentence for block in section for sentence in SENTENCE.split(block.text)]
    plain = not re.search(r"success|error|fail", " ".join(sentences))
    forms = {"success": ("", None)} if plain else {"success": (SUCCESS, ON_SUCCESS), "failure": (FAILURE, ON_FAILURE)}
    for kind, form in forms.items():
        asked = {}
        clauses = [(sentence, clause) for sentence in sentences for clause in CLAUSE.split(sentence)]
        said = [(sentence, *found) for sentence, clause in clauses if (found := returned(clause, *form)) is not None]
        for sentence, what, of_all in said:
            named_ones = [name for name in re.findall(r"(\w+)\(\)", sentence) if name not in what]
            for name in named_ones or (known if of_all and len(said) == 1 else []):
                asked.setdefault(name, []).append(what if name in known else "")
        for name, answers in asked.items():
            at = next((place for place, line in enumerate(lines) if answers[0] in line), None)
            if len(answers) > 1 or not answers[0] or at is None:
                continue
            draws = rng(page.key, kind, name)
            near = window(lines, at, at, draws.randint(ROOM // 2, ROOM), draws)
            if len("\n".join(near)) <= ROOM:
                yield ask(kind, page, answer=answers[0], needed=("RETURN VALUE", near), subject=name)


def returned(clause, opening, within):
    """What a clause says is returned, as short as it says it and empty where that cannot be told, and whether it speaks
    of all functions of the page. None where it neither begins with `opening` nor has the pattern `within`.
    """
    who = what = ""
    if start := re.match(opening, clause):
        rest = re.split(OTHERWISE, clause[start.end() :])[0].rstrip(".,")
        if found := re.fullmatch(rf"({SPEAKERS}) returns? (.+)", rest):
            who, what = found.groups()
        elif found := re.fullmatch(r"(?:\(.*?\), )?(.+) (?:is|are) returned", rest):
            what = found[1]
    elif within and (found := within.search(clause)):
        who, what = clause[: found.start()], found["what"]
    else:
        return None
    unclear = UNCLEAR.search(what) or what.count("(") != what.count(")")
    of_all = not who or re.match(r"(?i:this|these|they|it|both|the (?:function|system call|call|macro)s?)\b", who)
    return ("" if unclear or len(what) > ANSWER else what), bool(of_all)


def of_errors(page):
    known = functions(page)
    entries = [group for group in entries_of(page.section("ERRORS")) if group[0].kind == "tag"]
    if not known or len(entries) < 3:
        return
    causes = [group[1].text if len(group) > 1 else "" for group in entries]
    texts = ["\n".join(lines_of(group)) for group in entries]
    for at, group in enumerate(entries):
        cause = SENTENCE.split(causes[at])[0]
        of_one = OF_ONE.match(cause)
        subject, cause = (of_one[1], cause[of_one.end() :]) if of_one else (known[0], cause)
        if subject not in known or cause.startswith("(") or not 0 < len(cause) <= ANSWER:
            continue
        if not re.fullmatch(r"E[A-Z0-9]+", group[0].text):
            continue
        if sum(cause in other for other in causes) > 1:
            continue
        draws = rng(page.key, "error", at)
        near = window(texts, at, at, draws.randint(ROOM // 2, ROOM), draws)
        if len("\n".join(near)) > ROOM or len(near) < 2:
            continue
        yield ask("error", page, answer=group[0].text, needed=("ERRORS", near), subject=subject, detail=cause)
        if sum(other[0].text.split()[0] == group[0].text for other in entries) == 1 and not cause.startswith("See "):
            yield ask("cause", page, answer=cause, needed=("ERRORS", near), subject=subject, detail=group[0].text)


def of_attributes(page):
    lines = lines_of(page.section("ATTRIBUTES"))
    for at, line in enumerate(lines):
        cells = line.split(" | ")
        if len(line) > ROOM or not re.fullmatch(r"[^|]+ \| Thread safety \| MT-[^(*|]+", line):
            continue
        names = re.findall(r"(\w+)\(\)", cells[0])
        once = [name for name in names if sum(f"{name}()" in other for other in lines) == 1]
        draws = rng(page.key, "attributes", at)
        near = window(lines, at, at, draws.randint(ROOM // 2, ROOM), draws)
        for name in pick(once, 2, page.key):
            yield ask("thread_safety", page, answer=cells[2], needed=("ATTRIBUTES", near), subject=name)


def of_references(page):
    for section in ("DESCRIPTION", "NOTES", "SEE ALSO"):
        lines = lines_of(page.section(section))
        for at, line in enumerate(lines):
            found = dict.fromkeys(REFERENCE.findall(line))
            if len(line) > ROOM or len({number for _, number in found}) < 2:
                continue
            for name, number in pick(list(found), 2, f"{page.key}/{section}/{at}"):
                item = ask("section", page, answer=number, needed=(section, [line]), subject=name)
                if derivable(item):
                    yield item


def of_versions(page):
    version = r"(?P<system>Linux|glibc) (?P<version>\d[\d.]*\d)"
    since = re.compile(rf"(?P<name>[\w./-]+) \(since {version}\)")
    added = re.compile(rf"(?P<name>\w+\(\)) (?:was|were) added (?:to|in) {version}\b")
    for section in dict.fromkeys(block.section for block in page.blocks if block.section != "ERRORS"):
        groups = entries_of(page.section(section))
        texts = ["\n".join(lines_of(group)) for group in groups]
        for at, group in enumerate(groups):
            found = since.fullmatch(group[0].text) if group[0].kind == "tag" else added.match(group[0].text)
            if not found or len(texts[at]) > ROOM:
                continue
            draws = rng(page.key, "since", found["name"])
            needed = (section, window(texts, at, at, draws.randint(ROOM // 2, ROOM), draws))
            subject, detail = found["name"], found["system"]
            item = ask("since", page, answer=found["version"], needed=needed, subject=subject, detail=detail)
            if item.piece.count(f"{subject} (since {detail}") + item.piece.count(f"{subject} was added") == 1:
                yield item


# Making a piece.


def ask(kind, page, answer, needed, subject, detail=""):
    question = QUESTIONS[kind].format(subject=subject, detail=detail)
    draws = rng(page.key, kind, question)
    parts = [needed]
    room = draws.randint(LIMIT // 2, LIMIT) - length(needed)
    others = [name for name in AROUND if name != needed[0]]
    draws.shuffle(others)
    if kind == "header" and (program := includes(page)):
        parts.append(("EXAMPLES", program))
        room -= length(parts[-1])
    for name in others:
        if part := excerpt(page, name, min(room, draws.randint(60, 160)), draws):
            parts.append(part)
            room -= length(part)
    draws.shuffle(parts)
    return Item(kind, page.key, question, "\n".join("\n".join([name, *lines]) for name, lines in parts), answer)


def includes(page):
    """The first headers that the page's example includes: not those that declare what is asked for."""
    lines = [line for line in lines_of(page.section("EXAMPLES")) if line.startswith("#include <")]
    return lines[:4]


def length(part):
    return len(part[0]) + sum(len(line) + 1 for line in part[1]) + 1


def excerpt(page, section, room, draws):
    """Neighbouring lines of a section that fit; where no line fits, the first sentences of one that do."""
    lines = lines_of(declarations_or(page, section))
    if not lines:
        return None
    start, room = draws.randrange(len(lines)), room - len(section) - 1
    while start and lines[start].startswith("  "):  # not from the middle of an entry or a declaration
        start -= 1
    chosen = []
    for line in lines[start:]:
        if not chosen and len(line) >= room:
            sentences = SENTENCE.split(line)
            while sentences and len(" ".join(sentences)) >= room:
                sentences.pop()
            line = " ".join(sentences)
        if not line or len(line) >= room:
            break
        chosen.append(line)
        room -= len(line) + 1
    return (section, chosen) if chosen else None


def declarations_or(page, section):
    if section == "SYNOPSIS":
        return [Block(section, "line", line) for line in declarations(page)]
    return page.section(section)


def window(lines, first, last, room, draws):
    """Lines `first` to `last` and neighbours of either side as long as they fit."""
    low, high = first, last + 1
    used = sum(len(line) + 1 for line in lines[low:high])
    while low > 0 or high < len(lines):
        up = low > 0 and (high == len(lines) or draws.random() < 0.5)
        used += len(lines[low - 1 if up else high]) + 1
        if used > room:
            break
        low, high = (low - 1, high) if up else (low, high + 1)
    return lines[low:high]


def pick(things, count, name):
    """Some of the things, the same ones whenever the name is the same."""
    return sorted(things, key=lambda thing: digest(f"{name}/{thing}"))[:count]


def rng(*names):
    return random.Random("/".join([str(SEED), *map(str, names)]))


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()
