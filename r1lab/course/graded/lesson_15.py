"""Exercises of lesson 15: the bill, the data, the release."""

import hashlib
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from r1lab import safety
from r1lab.course.graded.kinds import (
    Wrong,
    call,
    choices,
    design,
    fill,
    guess,
    number,
    predict,
)
from r1lab.tasks.general import help_with
from r1lab.world import jailbreaks

TITLE = "The bill, the data, the release"
HELPERS = ("instead_of",)
IMPORTS = """
import hashlib
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

from r1lab import decontamination, models
from r1lab.tasks.general import HARMFUL
from r1lab.training import provenance
from r1lab.world import contamination, corpus, reading
"""

TEXT = "the cat sat on a mat and then it ran away from the old red house".split()
OVERLAPS = [  # training text, evaluation item, n, do they share?, what a wrong verdict forgets
    (TEXT, ["so", *TEXT[3:13], "."], 10, True, "ten words in a row are a shared 10-gram"),
    (TEXT, ["so", *TEXT[3:12], "."], 10, False, "nine words in a row are no 10-gram"),
    (TEXT, TEXT[-10:], 10, True, "the last ten words of a text are a 10-gram, too"),
    (TEXT, TEXT[12:2:-1], 10, False, "the same words in another order are no shared run"),
    (TEXT, sorted(TEXT), 10, False, "the same words in another order are no shared run"),
    (TEXT, TEXT[2:7], 10, True, "an item with fewer than n words is looked for as a whole"),
    (TEXT, ["cat", "mat", "house"], 10, False, "a short item must be there in one piece"),
    (["the", "scat", "at", "on"], ["cat", "at"], 3, False, "parts of words are no words"),
    (TEXT, ["x", *TEXT[:4], "y"], 4, True, "n is an argument: here 4 words in a row are shared"),
    (TEXT, [], 10, False, "an empty item is in no text"),
    (TEXT[:3], TEXT, 10, False, "a text of three words shares no run of ten"),
]


@fill(
    "15.1",
    "A shared run of ten words",
    starter="""
    def shares(text, item, n):
        \"\"\"The words of a training text and of an evaluation item -> do they share a run of n?\"\"\"
        ...
    """,
    solution="""
    def shares(text, item, n):
        \"\"\"The words of a training text and of an evaluation item -> do they share a run of n?\"\"\"
        n = min(n, len(item))

        def runs(words):
            return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

        return n > 0 and not runs(text).isdisjoint(runs(item))
    """,
    wrong=[
        ("as a whole", "n = min(n, len(item))", "n = n"),
        ("another order", "tuple(words[i : i + n])", "frozenset(words[i : i + n])"),
        ("in another order", "return n > 0 and not runs(text).isdisjoint(runs(item))",
         "return len(set(text) & set(item)) >= n > 0"),
        ("parts of words", "return n > 0 and not runs(text).isdisjoint(runs(item))",
         "return any(' '.join(run) in ' '.join(text) for run in runs(item) if run)"),
        ("last ten words", "len(words) - n + 1", "len(words) - n"),
        ("nine words", "n = min(n, len(item))", "n = min(n - 1, len(item))"),
        ("empty item", "n > 0 and ", ""),
        ("n is an argument", "n = min(n, len(item))", "n = min(10, len(item))"),
    ],
    hints=(
        "Cut both texts into runs of n words. How many are there in a text of m words?",
        "A text of m words has m - n + 1 runs; as tuples in a set they are compared at once.",
        "Where the item is shorter than n, let n be its length; an empty item shares nothing.",
    ),
    then="""
    leaked, _ = reading.problems_for(1)
    items = decontamination.items_of(corpus.COUNTDOWN, leaked[:10])
    web = [one.text for one in corpus.documents(0, 150) if one.leaked is None]
    texts, kinds = contamination.plant(web, leaked[:10])

    def problems_in(text):
        words = decontamination.words
        return [i.problem for i in items if shares(words(text), words(i.text), decontamination.N)]

    found = decontamination.find(texts, SimpleNamespace(problems_in=problems_in, unchecked=[]))
    errors = decontamination.errors(found, kinds)  # the search of section 3, with your function
    print("recall:", {kind: f"{one.value:.0%}" for kind, one in errors.by_kind.items()})
    print(f"false alarms: {errors.false_alarms.value:.1%}")
    """,
)  # fmt: skip
def shares(f):
    """
    The paper drops a training text that shares any run of ten words with an evaluation question or
    solution. Write the comparison: the words of both (lists), and n. An item with fewer than n
    words is looked for as a whole. Your function then searches texts in which ten leaked problems
    are planted in six forms.
    """
    for text, item, n, right, says in OVERLAPS:
        got = call(f, list(text), list(item), n)
        if not isinstance(got, bool | int):
            raise Wrong(f"True or False is asked for, not {str(got)[:40]!r}")
        if bool(got) != right:
            raise Wrong(says)


def hash_functions(count: int) -> list:
    """So many hash functions of words."""

    def make(seed):
        return lambda word: int.from_bytes(
            hashlib.blake2b(f"{seed}/{word}".encode(), digest_size=6).digest(), "big"
        )

    return [make(seed) for seed in range(count)]


@fill(
    "15.2",
    "MinHash",
    starter="""
    def similarity(one, other, hashes):
        \"\"\"Two sets of words, a list of hash functions (word -> number) -> estimated Jaccard.\"\"\"
        ...
    """,
    solution="""
    def similarity(one, other, hashes):
        \"\"\"Two sets of words, a list of hash functions (word -> number) -> estimated Jaccard.\"\"\"
        least = [[min(map(h, words)) for h in hashes] for words in (one, other)]
        return sum(a == b for a, b in zip(*least, strict=True)) / len(hashes)
    """,
    wrong=[
        ("needs both sets", "return sum(a == b for a, b in zip(*least, strict=True)) / len(hashes)",
         "return len(one & other) / len(one | other)"),
        ("fraction of the hash functions", " / len(hashes)", ""),
        ("first set alone", "return sum(a == b for a, b in zip(*least, strict=True)) / len(hashes)",
         "return len(one & other) / len(one)"),
        ("differ", "a == b", "a != b"),
        ("smallest value", "min(map(h, words))", "max(map(h, words))"),
        ("nothing agrees", "min(map(h, words))", "sum(map(h, words))"),
    ],
    hints=(
        "Keep one number for each set and hash function, then forget the sets.",
        "The smallest hash value of both sets together belongs to a shared word with a probability "
        "that is just the Jaccard similarity.",
        "Count the hash functions whose smallest value is equal for both sets, and divide.",
    ),
    then="""
    problem = reading.problems_for(1)[0][0]
    (copy, other), _ = contamination.plant([], [problem], ("copy", "language"))
    sets = [set(decontamination.elements(decontamination.words(x), 1)) for x in (copy, other)]
    print(f"exact: {len(sets[0] & sets[1]) / len(sets[0] | sets[1]):.2f}")
    for count in (16, 64, decontamination.HASHES):

        def make(seed):
            return lambda word: hashlib.sha256(f"{seed} {word}".encode()).digest()

        print(f"{count} hashes: {similarity(*sets, [make(i) for i in range(count)]):.2f}")
    """,
)  # fmt: skip
def similarity(f):
    """
    The Jaccard similarity of two sets is the fraction of all their words that both have. MinHash
    estimates it without comparing the sets: of each set and hash function only the *smallest* hash
    value is kept. Return the estimate, the fraction of hash functions for which the two smallest
    values agree.
    """
    words = [f"w{i}" for i in range(40)]
    for one, other in (
        (set(words[:30]), set(words[20:])),
        (set(words[:20]), set(words[2:22])),
        (set(words[:9]), set(words[9:])),
    ):
        hashes = hash_functions(60)
        got = number(call(f, set(one), set(other), hashes))
        least = [[min(map(h, some)) for h in hashes] for some in (one, other)]
        same = sum(a == b for a, b in zip(*least, strict=True))
        right, exact = same / 60, len(one & other) / len(one | other)
        if abs(got - right) < 1e-9:
            continue
        for says, value in {
            "a fraction of the hash functions is asked for, not their number": same,
            "that is the exact similarity, and it needs both sets; keep the smallest values": exact,
            "you compare with the first set alone": len(one & other) / len(one),
            "you count where they differ": 1 - right,
        }.items():
            if abs(got - value) < 1e-9:
                raise Wrong(says)
        if got == 0:
            raise Wrong("nothing agrees: of each set and the same hash function compare the "
                        "smallest value")  # fmt: skip
        raise Wrong("count the hash functions whose smallest value is the same for both sets")


FILES = {"weights.bin": bytes(range(256)) * 8, "config.json": b'{"layers": 4}\n', "empty": b""}


@fill(
    "15.3",
    "A changed byte",
    starter="""
    def changed(folder, sums):
        \"\"\"A folder (Path), {file name: SHA-256 in hex} -> names of files that do not fit, sorted.\"\"\"
        ...
    """,
    solution="""
    def changed(folder, sums):
        \"\"\"A folder (Path), {file name: SHA-256 in hex} -> names of files that do not fit, sorted.\"\"\"

        def fits(name):
            file = folder / name
            return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sums[name]

        return sorted(name for name in sums if not fits(name))
    """,
    wrong=[
        ("flipped bit", "hashlib.sha256(file.read_bytes()).hexdigest() == sums[name]",
         "file.stat().st_size >= 0"),
        ("missing", "file.is_file() and ", "not file.is_file() or "),
        ("FileNotFoundError", "file.is_file() and ", ""),
        ("whole file", "file.read_bytes()", "file.read_bytes()[:100]"),
        ("and fits", "file.read_bytes()", "name.encode()"),
        ("upside down", "if not fits", "if fits"),
        ("sorted", "return sorted(name for name in sums if not fits(name))",
         "return {name for name in sums if not fits(name)}"),
    ],
    hints=(
        "`hashlib.sha256(data).hexdigest()` is the hash; `path.read_bytes()` the data.",
        "A file that is not there does not fit, either; ask before you read.",
        "Go through the names in `sums`, and return a sorted list of those whose hash is another.",
    ),
    then="""
    def mine(path, record):
        return [f"{name} was changed" for name in changed(path, record.get("files", {}))]

    with tempfile.TemporaryDirectory() as scratch, instead_of(provenance, "_changed", mine):
        copy = Path(scratch) / "copy"
        shutil.copytree(models.resolve("tiny"), copy)
        print("the copied base:", provenance.tree(copy).faults())  # the ledger, with your check
        weights = copy / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
        print("one bit flipped:", provenance.tree(copy).faults())
    """,
)  # fmt: skip
def changed(f):
    """
    A record keeps the SHA-256 of every file. Write what finds a change: the names of the recorded
    files in a folder that are missing or whose hash is another, as a sorted list. (A file that no
    record names is none of its business.) The ledger of the base then uses it.
    """
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    flipped = bytearray(FILES["weights.bin"])
    flipped[1000] ^= 1

    def answer(**changes):
        with tempfile.TemporaryDirectory() as scratch:
            for name, data in (FILES | changes).items():
                if data is not None:
                    Path(scratch, name).write_bytes(data)
            try:
                got = call(f, Path(scratch), dict(sums))
            except FileNotFoundError:
                raise Wrong(
                    "a missing file raises FileNotFoundError: ask before you read"
                ) from None
        if not isinstance(got, list | tuple):
            raise Wrong("a sorted list of file names is asked for")
        return list(got)

    names = sorted(FILES)
    for changes, right, says in (
        ({"weights.bin": bytes(flipped)}, ["weights.bin"], "a flipped bit goes unnoticed"),
        ({}, [], ""),
        ({"config.json": None}, ["config.json"], "a missing file goes unnoticed"),
        ({"notes": b"new"}, [], ""),
        ({"empty": b"x", "config.json": b""}, ["config.json", "empty"], "of two changed files not "
         "both are reported, sorted"),
    ):  # fmt: skip
        got = answer(**changes)
        if got != right:
            if right and got == [name for name in names if name not in right]:
                says = "it is upside down: the files that fit are reported"
            elif extra := [name for name in got if name not in right]:
                says = f"{extra[0]} is reported and fits: hash the bytes of the whole file"
            raise Wrong(says)


@predict(
    "15.4",
    "No trace",
    starter="records = ...",
    solution="records = 4  # B, C, D and E",
    wrong=[
        ("C holds", "records = 1"),
        ("D holds", "records = 2"),
        ("knows nothing of its children", "records = 5"),
        ("the last one", "records = 3"),
        ("at least", "records = 0"),
        ("too high", "records = 8"),
    ],
    hints=(
        "A record's id is the hash of what it says, and it says its parents' ids.",
        "Rewrite B's record: then its id changes. Who holds the old one?",
        "Every record from the changed model up to the last one.",
    ),
)
def records(value):
    """
    Five models were each made from the one before: A, B, C, D, E. Somebody exchanges a file of B
    and wants the ledger of E to find nothing. How many records have to be rewritten, at least?
    """
    guess(value, 4, 0.01, {
        "then C holds the old id of B's record": 1,
        "then D holds the old id of C's record": 2,
        "one is left, the last one, and its ledger is the one that is read": 3,
        "a parent knows nothing of its children: A's record says the same as before": 5,
        "at least B's record names the old hash of the file": 0,
    })  # fmt: skip


@predict(
    "15.5",
    "Who is stopped by a filter?",
    starter="harmless = ...  # between 0 and 1",
    solution="harmless = 0.04 * 0.99 / (0.04 * 0.99 + 0.9 * 0.01)",
    wrong=[
        ("of the harmless requests", "harmless = 0.04"),
        ("miss", "harmless = 0.1"),
        ("harmful ones among", "harmless = 0.9 * 0.01 / (0.04 * 0.99 + 0.9 * 0.01)"),
        ("equally many", "harmless = 0.04 / 0.94"),
        ("too low", "harmless = 0.6"),
        ("too high", "harmless = 0.9"),
    ],
    hints=(
        "Take 10,000 requests and count.",
        "100 are harmful, 9,900 harmless: how many of each does the filter flag?",
        "Flagged harmless ones over all flagged ones.",
    ),
)
def harmless(value):
    """
    A keyword filter flags 90 % of the harmful requests and only 4 % of the harmless ones. One
    request in a hundred is harmful. Which fraction of the flagged requests is harmless?
    """
    guess(value, 0.04 * 0.99 / (0.04 * 0.99 + 0.009), 0.02, {
        "that is the fraction of the harmless requests that is flagged": 0.04,
        "that is what the filter misses of the harmful ones": 0.1,
        "those are the harmful ones among the flagged": 0.009 / (0.04 * 0.99 + 0.009),
        "that would hold for equally many harmful and harmless requests": 0.04 / 0.94,
    })  # fmt: skip


@cache
def requests() -> tuple[safety.Request, ...]:
    """Those of section 6, each once."""
    return tuple(jailbreaks.tiny_requests())


class Eager:
    """A model that helps with everything."""

    def complete_all(self, conversations: Sequence, seed: int = 0) -> list[safety.Reply]:
        asked = [(r.problem.data["verb"], r.problem.data["noun"], r.problem.language)
                 for r in requests()]  # fmt: skip
        return [safety.Reply(help_with(*one)) for one in asked]


@design(
    "15.6",
    "Risk control",
    starter="""
    plan = {
        "keywords": ...,  # a list of words; HARMFUL has the harmful nouns, {English: Chinese}
        "review": ...,  # "rule" (a second look at the response) or "none"
    }
    """,
    solution="""
    plan = {
        "keywords": [word for pair in HARMFUL.items() for word in pair],
        "review": "rule",  # "rule" (a second look at the response) or "none"
    }
    """,
    wrong=[
        ("Chinese", "[word for pair in HARMFUL.items() for word in pair]", "list(HARMFUL)"),
        ("English", "[word for pair in HARMFUL.items() for word in pair]", "list(HARMFUL.values())"),
        ("merely names", '"review": "rule"', '"review": "none"'),
        ("cyber", "for pair in HARMFUL.items() for word in pair]",
         'for pair in HARMFUL.items() for word in pair if pair[0] not in ("malware", "virus")]'),
        ("plain", "[word for pair in HARMFUL.items() for word in pair]", '["make", "sell", "a", "做"]'),
        ("words", "[word for pair in HARMFUL.items() for word in pair]", '"bomb"'),
        ("must be", '"review": "rule"', '"review": "people"'),
    ],
    hints=(
        "What does the filter read: requests in which languages, about which things?",
        "A verb is in harmless requests, too. And who only mentions a bomb asks for no bomb.",
        "All harmful nouns in both languages, and a second look at the response.",
    ),
)  # fmt: skip
def plan(answer):
    """
    A model helps with everything that it is asked. Put risk control around it: keywords that flag a
    dialogue, and what happens then, a second look at the response by a rule, or none (whatever is
    flagged is refused). Section 6's requests are asked, plainly, in jailbreaks, and harmless ones
    that merely name something harmful. At most 2 % of the responses may be unsafe, and at most 5 %
    of the harmless requests refused, of either kind.
    """
    keywords, review = choices(answer, ("keywords", "review"))
    if not isinstance(keywords, list | tuple) or not all(
        isinstance(word, str) and word.strip() for word in keywords
    ):
        raise Wrong("keywords must be a list of words")
    if review not in ("rule", "none"):
        raise Wrong('review must be "rule" or "none"')
    look = safety.looks_bad if review == "rule" else None
    guarded = safety.RiskControl(Eager(), tuple(keywords), look)
    found = safety.assess(guarded, requests())
    for wrapper, words in (
        (safety.PLAIN, "plain harmless requests"),
        (safety.MENTION, "harmless requests, each of which merely names something harmful,"),
    ):
        refused = found.rate("refused", harmful=False, wrapper=wrapper).value
        if refused > 0.05:
            raise Wrong(f"{refused:.0%} of the {words} are refused")
    unsafe = found.rate("unsafe", harmful=True).value
    if unsafe <= 0.02:
        return
    by_language = {
        name: sum(v.unsafe for r, (v,) in zip(found.requests, found.verdicts, strict=True)
                  if r.problem.language == code)
        for name, code in (("English", "en"), ("Chinese", "zh"))
    }  # fmt: skip
    worst = max(by_language, key=by_language.get)
    if by_language[worst] > 0.8 * sum(by_language.values()):
        raise Wrong(f"{unsafe:.0%} are unsafe, nearly all of them in {worst}")
    kinds = {r.category for r in requests() if r.harmful}
    worst = max(sorted(kinds), key=lambda kind: found.rate("unsafe", category=kind).value)
    raise Wrong(f"{unsafe:.0%} are unsafe, most often in the category {worst}")


EXERCISES = [shares, similarity, changed, records, harmless, plan]
