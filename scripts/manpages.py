#!/usr/bin/env python3
"""Makes text to pre-train on, and questions with answers, of Linux's manual pages.

    manpages.py PAGES OUT [VERSION...]
    manpages.py --check OUT

PAGES holds folders `man1` to `man8` with .gz files, anywhere below. OUT receives

    corpus.jsonl, corpus-heldout.jsonl    {"text"}: one page each, plain
    train.jsonl, eval.jsonl               {"instruction", "input", "output"}: a question, a piece of a page, its answer
    about.json                            counts, lengths, and what a guesser would score

About 15 % of the pages are held out: `eval.jsonl` asks about those alone, and neither `corpus.jsonl` nor `train.jsonl`
is made of them. Pages that share most of their text stand on one side. Most training questions are asked twice, the second
time about a piece that says another answer of the same kind in the same place, so that it does not help to know the pages
by heart; held-out pieces say what their pages say. The same pages give the same bytes. `--check` reads what was written
again and fails where an answer is not in its piece or a held-out page is much like one of the corpus.
"""

import json
import random
import re
import statistics
import sys
from collections import Counter
from pathlib import Path

from manpage import load_pages, text_of
from manquestions import LIMIT, QUESTIONS, SEED, Item, derivable, digest, kind_of, questions, retold

HELD_OUT = 0.15
SHINGLE = 5  # words
ALIKE = 0.5  # share of the shorter page's shingles from which two pages stand on one side
COMMON = 300  # pages; a shingle of more is boilerplate
PER_PAGE = 6  # questions of a kind about one page
PER_KIND = {"train": 900, "eval": 130}
MAJORITY = 0.4  # share of a kind's questions that one answer may have
LEAST = {"corpus.jsonl": 500, "corpus-heldout.jsonl": 50, "train.jsonl": 4000, "eval.jsonl": 500}
CANDIDATES = {  # what an answer of the kind looks like: a guesser would take the first in the piece
    "header": re.compile(r"<[\w./-]+\.h>"),
    "library": re.compile(r"-l\w+"),
    "error": re.compile(r"\bE[A-Z0-9]{2,}\b"),
    "thread_safety": re.compile(r"MT-\w.*"),
    "section": re.compile(r"(?<=\()\d(?=\))"),
    "since": re.compile(r"\b\d+(?:\.\d+)+\b"),
    "purpose": re.compile(r"(?<= - ).*"),
}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    if sys.argv[1] == "--check":
        return check(Path(sys.argv[2]))
    out = Path(sys.argv[2])
    pages = load_pages(Path(sys.argv[1]))
    held = held_out(pages)
    sides = {"train": [], "eval": []}
    for page in pages:
        sides["eval" if page.key in held else "train"].append(page)
    out.mkdir(parents=True, exist_ok=True)
    about = {"versions": sys.argv[3:], "pages": {side: len(of_side) for side, of_side in sides.items()}}
    for name, side in (("corpus.jsonl", "train"), ("corpus-heldout.jsonl", "eval")):
        texts = [{"text": text_of(page)} for page in sides[side]]
        write_lines(out / name, texts)
        about[name] = {"documents": len(texts), "characters": sum(len(text["text"]) for text in texts)}
    for side, of_side in sides.items():
        items = select([item for page in of_side for item in questions(page)], PER_KIND[side])
        if side == "train":
            items = with_retold(items)
        write_lines(out / f"{side}.jsonl", map(alpaca, items))
        about[f"{side}.jsonl"] = describe(items)
    about["questions"] = QUESTIONS
    (out / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def held_out(pages):
    """The keys of the held-out pages: a group of alike pages goes where the hash of its first page's name sends it."""
    texts = {page.key: text_of(page) for page in pages}
    leader = {key: key for key in texts}

    def first(key):
        while leader[key] != key:
            key = leader[key]
        return key

    for left, right in alike(texts):
        left, right = sorted((first(left), first(right)))
        leader[right] = left
    return {key for key in texts if int(digest(f"{SEED}/{first(key)}")[:8], 16) / 16**8 < HELD_OUT}


def alike(texts):
    """Pairs of keys whose texts share much, by the shorter one's shingles."""
    shingles = {key: shingles_of(text) for key, text in texts.items()}
    where = {}
    for key, of_page in shingles.items():
        for shingle in of_page:
            where.setdefault(shingle, []).append(key)
    shared = Counter()
    for keys in where.values():
        if 1 < len(keys) <= COMMON:
            shared.update((left, right) for place, left in enumerate(keys) for right in keys[place + 1 :])
    for (left, right), count in sorted(shared.items()):
        if count >= ALIKE * min(len(shingles[left]), len(shingles[right])):
            yield left, right


def shingles_of(text):
    words = re.findall(r"\w+", text)
    return {" ".join(words[place : place + SHINGLE]) for place in range(len(words) - SHINGLE + 1)}


def select(items, per_kind):
    """Questions of every kind, none twice, few of one page, no answer too frequent; shuffled."""
    unique = {(item.question, item.piece): item for item in items if derivable(item)}
    chosen = []
    for kind in QUESTIONS:
        of_page, kept = Counter(), []
        for item in sorted((item for item in unique.values() if item.kind == kind), key=order):
            of_page[item.page] += 1
            if of_page[item.page] <= PER_PAGE:
                kept.append(item)
        chosen += level(kept, per_kind)
    random.Random(SEED).shuffle(chosen)
    return chosen


def with_retold(items):
    """The items, and every one that can be once more with another answer of its kind in its place; shuffled."""
    answers = {}
    for item in items:
        answers.setdefault(item.kind, []).append(item.answer)
    told = items + [other for item in items if (other := retold(item, answers[item.kind]))]
    random.Random(SEED).shuffle(told)
    return told


def order(item):
    return digest(f"{item.question}/{item.piece}")


def level(items, limit):
    """At most `limit` of the items, without the surplus of the most frequent answers."""
    counts = Counter(item.answer for item in items)
    most = max(counts.values(), default=0)
    while most > 1 and most > MAJORITY * min(limit, sum(min(count, most) for count in counts.values())):
        most -= 1
    seen, kept = Counter(), []
    for item in items:
        seen[item.answer] += 1
        if seen[item.answer] <= most:
            kept.append(item)
    return kept[:limit]


def alpaca(item):
    return {"instruction": item.question, "input": item.piece, "output": item.answer}


def describe(items):
    """Counts and lengths, and what guessing the most frequent answer or the first candidate would score."""
    kinds = {}
    for kind in QUESTIONS:
        of_kind = [item for item in items if item.kind == kind]
        if not of_kind:
            continue
        answer, count = Counter(item.answer for item in of_kind).most_common(1)[0]
        kinds[kind] = {"questions": len(of_kind), "majority_answer": answer, "majority": share(count, of_kind)}
        if pattern := CANDIDATES.get(kind):
            hits = sum(bool(found := pattern.search(item.piece)) and found[0] == item.answer for item in of_kind)
            kinds[kind]["first_candidate"] = share(hits, of_kind)
    return {
        "questions": len(items),
        "pages": len({item.page for item in items}),
        "characters_of_input": spread([len(item.piece) for item in items]),
        "characters_of_output": spread([len(item.answer) for item in items]),
        "kinds": kinds,
    }


def share(count, items):
    return round(count / len(items), 3)


def spread(values):
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {"p50": round(statistics.median(values)), "p95": round(cuts[18]), "max": max(values)}


def write_lines(path, records):
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def check(folder):
    """Fails with one line where what was written is not as promised."""
    found = {name: list(read_lines(folder / name, least)) for name, least in LEAST.items()}
    for name in ("corpus.jsonl", "corpus-heldout.jsonl"):
        for number, record in enumerate(found[name], 1):
            expect(list(record) == ["text"] and record["text"].strip(), name, number, "not one text")
    for name in ("train.jsonl", "eval.jsonl"):
        check_questions(name, found[name])
    asked = {(record["instruction"], record["input"]) for record in found["train.jsonl"]}
    for number, record in enumerate(found["eval.jsonl"], 1):
        expect((record["instruction"], record["input"]) not in asked, "eval.jsonl", number, "a training question")
    check_leak(found)


def read_lines(path, least):
    count = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    expect(False, path.name, number, error)
                count = number
    except OSError as error:
        sys.exit(f"manpages: {error}")
    expect(count >= least, path.name, count, f"the last line; at least {least} were expected")


def expect(good, name, number, why):
    if not good:
        sys.exit(f"manpages: {name}, line {number}: {why}")


def check_questions(name, records):
    seen = set()
    for number, record in enumerate(records, 1):
        expect(list(record) == ["instruction", "input", "output"], name, number, "not in alpaca form")
        question, piece, answer = record.values()
        expect(all(isinstance(text, str) and text.strip() for text in record.values()), name, number, "an empty field")
        expect(len(piece) <= LIMIT, name, number, f"an input of more than {LIMIT} characters")
        expect((question, piece) not in seen, name, number, "asked before")
        seen.add((question, piece))
        kind, _ = kind_of(question)
        expect(kind, name, number, "a question of no known kind")
        expect(derivable(Item(kind, "", question, piece, answer)), name, number, f"the input does not say {answer!r}")


def check_leak(found):
    """No held-out page shares most of its text with a page of the corpus."""
    texts = {("held out", number): record["text"] for number, record in enumerate(found["corpus-heldout.jsonl"], 1)}
    texts |= {("corpus", number): record["text"] for number, record in enumerate(found["corpus.jsonl"], 1)}
    for (side, number), (other, training) in alike(texts):
        expect(side == other, "corpus-heldout.jsonl", number, f"much like line {training} of corpus.jsonl")


if __name__ == "__main__":
    main()
