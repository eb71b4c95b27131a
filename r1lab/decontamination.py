"""Decontamination: which training texts hold a problem of an evaluation, or its solution?

The paper drops every training text that shares a *10-gram* with an evaluation question or a
reference solution (arXiv 2501.12948v2, appendix D.1; about six million texts of mathematics from
the pre-training corpus alone), and says what this misses: paraphrases.

    find        the n-gram filter: a shared run of n words
    find_near   MinHash: a similar *set* of content words (Broder 1997), for what was reworded

Three choices are ours, since the paper does not say what it did:

* A *word* is a run of letters or digits, one Chinese character or one sign; case does not count.
* A question or solution shorter than n words is looked for as a whole, from `least` words up.
  Shorter ones are not checked, and are listed (`Index.unchecked`).
* An n-gram of several problems is a template's ("user : write f . f ( 3 ) ="): it cannot tell which
  of them a text holds, and it would flag every text with the template. Such n-grams do not count.
  (GPT-3's filter ignored n-grams with more than ten hits in the training texts, arXiv 2005.14165,
  appendix C. That rule also ignores what has leaked more than ten times.)
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import rensa

from r1lab.basics.errors import R1LabError
from r1lab.statistics import Estimate, wilson
from r1lab.tasks.base import Problem

N = 10  # the paper's
_WORDS = re.compile(r"[0-9]+|[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+|[^\w\s]|_")


def words(text: str) -> list[str]:
    """The words of a text, without case and without variants of one character (NFKC)."""
    return _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True)
class Item:
    """A text of an evaluation to be looked for; problem: whose question or solution it is."""

    problem: str
    text: str


def items_of(task, problems: Sequence[Problem]) -> list[Item]:
    """Question and reference solution of each problem, where the task knows one."""
    items = [Item(problem.id, problem.question) for problem in problems]
    solve = getattr(task, "solution", lambda problem: None)
    solutions = ((problem.id, solve(problem)) for problem in problems)
    return [*items, *(Item(of, text) for of, text in solutions if isinstance(text, str))]


@dataclass
class Index:
    """The n-grams of an evaluation, and the problems of each.

    items      questions and solutions (`items_of`)
    n          words of an n-gram
    least      shortest text, in words, that is looked for as a whole when it has fewer than n
    shared     an n-gram of more problems than this is a template's and does not count"""

    items: Sequence[Item]
    n: int = N
    least: int = 5
    shared: int = 1
    grams: dict[tuple[str, ...], set[str]] = field(init=False, repr=False)
    templates: int = field(init=False)  # n-grams that do not count
    unchecked: list[str] = field(init=False)  # problems without an n-gram that counts

    def __post_init__(self) -> None:
        if not self.items or min(self.n, self.least, self.shared) < 1:
            raise R1LabError("decontamination needs evaluation texts, and n, least, shared >= 1")
        found: dict[tuple[str, ...], set[str]] = {}
        for item in self.items:
            row = words(item.text)
            size = min(self.n, len(row))
            for gram in _grams(row, size) if size >= min(self.least, self.n) else ():
                found.setdefault(gram, set()).add(item.problem)
        self.grams = {gram: of for gram, of in found.items() if len(of) <= self.shared}
        self.templates = len(found) - len(self.grams)
        self._sizes = sorted({len(gram) for gram in self.grams})
        known = set().union(*self.grams.values())
        ids = dict.fromkeys(item.problem for item in self.items)
        self.unchecked = [problem for problem in ids if problem not in known]

    def problems_in(self, text: str) -> list[str]:
        """The problems that share an n-gram with the text, in order of appearance."""
        row, found = words(text), {}
        for size in self._sizes:
            for gram in _grams(row, size):
                if of := self.grams.get(gram):
                    found |= dict.fromkeys(sorted(of))
        return list(found)


def _grams(row: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(row[i:] for i in range(size)), strict=False)


@dataclass(frozen=True)
class Found:
    """What a search found. problems: {index of a training text: problems in it}; texts: how many
    were searched; unchecked: problems that could not be looked for."""

    problems: dict[int, list[str]]
    texts: int
    unchecked: list[str]

    @property
    def flagged(self) -> Estimate:
        """Fraction of the texts that are flagged, with Wilson's interval."""
        return _share(len(self.problems), self.texts)

    def clean(self, texts: Iterable) -> list:
        """The texts that are not flagged."""
        return [text for i, text in enumerate(texts) if i not in self.problems]


def find(texts: Iterable[str], index: Index) -> Found:
    """The n-gram filter over training texts. Linear in their words; `texts` may be a stream."""
    found, count = {}, 0
    for i, text in enumerate(texts):
        count = i + 1
        if problems := index.problems_in(text):
            found[i] = problems
    return Found(found, count, index.unchecked)


# -- similar sets of words ----------------------------------------------------------------------

HASHES, BANDS = 256, 64
"""Of a MinHash: the standard error of a similarity s is sqrt(s (1 - s) / 256), at most 0.03. Pairs
that agree in none of 64 bands of 4 are not compared: 1 in 10,000 of those with s = 0.6."""
_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
_UNITS += " fifteen sixteen seventeen eighteen nineteen"
UNITS = {word: i for i, word in enumerate(_UNITS.split())}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
TENS = {word: 10 * i for i, word in enumerate(_TENS.split(), 2)}
ZH = {word: i for i, word in enumerate("零一二三四五六七八九")}
_NUMBER_WORDS = re.compile(
    rf"\b({'|'.join(TENS)})(?:[ -]({'|'.join(w for w, n in UNITS.items() if 0 < n < 10)}))?\b"
    rf"|\b({'|'.join(UNITS)})\b|([{''.join(ZH)}]?十[{''.join(ZH)}]?|[{''.join(ZH)}])",
    re.IGNORECASE,
)


def with_digits(text: str) -> str:
    """Number words from 0 to 99 as digits, English and Chinese: "twenty-three", 二十三."""

    def digits(found: re.Match) -> str:
        tens, unit, small, chinese = found.groups(default="")
        if chinese:
            high, ten, low = chinese.rpartition("十")
            return str((10 * ZH.get(high, 1) if ten else 0) + ZH.get(low, 0))
        if small:
            return str(UNITS[small.lower()])
        return str(TENS[tens.lower()] + UNITS[unit.lower() or "zero"])

    return _NUMBER_WORDS.sub(digits, text)


def find_near(
    texts: Iterable[str],
    items: Sequence[Item],
    *,
    threshold: float = 0.8,
    shingle: int = 1,
    common: float = 0.1,
) -> Found:
    """Training texts whose content words are similar to a problem's, by MinHash.

    A problem is its question and its solution together. Content words are numbers (number words,
    too) and words in at most `common` of the training texts (1: every word counts). The same word
    for the second time is another element of the set. Texts with more than twice the content words
    of the longest problem are read in windows of its length.

    threshold  least Jaccard similarity, shared elements by all elements, as MinHash estimates it
    shingle    words of an element: 1 is a set of words in any order; 3 to 5 is usual for documents
    """
    if not 0 < threshold <= 1 or shingle < 1 or not 0 < common <= 1:
        raise R1LabError("find_near: threshold and common must be in (0, 1], shingle at least 1")
    rows = [words(with_digits(text)) for text in texts]
    every = Counter(word for row in rows for word in set(row))
    joined: dict[str, list[str]] = {}
    for item in items:
        joined.setdefault(item.problem, []).extend(words(with_digits(item.text)))

    def content(row: Sequence[str]) -> list[str]:
        return [word for word in row if word.isdigit() or every[word] <= common * len(rows)]

    rows = [content(row) for row in rows]
    wanted = {of: content(row) for of, row in joined.items()}
    longest = max(map(len, wanted.values()), default=0)
    sets = {of: elements(row, shingle) for of, row in wanted.items()}
    sets = {of: one for of, one in sets.items() if len(one) >= 3}  # fewer are like anything
    keys = list(sets)
    lsh = rensa.RMinHashLSH(threshold, HASHES, BANDS)
    theirs = rensa.RMinHash.from_token_sets(list(sets.values()), HASHES, 0)
    for key, one in enumerate(theirs):
        lsh.insert(key, one)
    found: dict[int, list[str]] = {}
    for i, row in enumerate(rows if keys else ()):
        pieces = [elements(piece, shingle) for piece in windows(row, longest)]
        for one in rensa.RMinHash.from_token_sets([p for p in pieces if p], HASHES, 0):
            for key in sorted(lsh.query(one)):
                of = found.setdefault(i, [])
                if theirs[key].jaccard(one) >= threshold and keys[key] not in of:
                    of.append(keys[key])
    found = {i: of for i, of in found.items() if of}
    return Found(found, len(rows), [of for of in joined if of not in sets])


def elements(row: Sequence[str], shingle: int) -> list[str]:
    """The set that a text is compared by: its shingles, numbered where one repeats."""
    seen: Counter[str] = Counter()
    out = []
    for gram in _grams(list(row), shingle):
        text = " ".join(gram)
        seen[text] += 1
        out.append(f"{text}#{seen[text]}")
    return out


def windows(row: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The row, or where it is longer than 2 * size its half overlapping windows of `size` words."""
    if len(row) <= 2 * size:
        yield row
        return
    for start in range(0, len(row) - size // 2, max(1, size // 2)):
        yield row[start : start + size]


# -- its errors -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errors:
    """A search against the truth: recall of planted texts, in all and by kind; false alarms among
    the others; precision, the fraction of the flagged that was planted. Wilson's 95 % intervals."""

    recall: Estimate
    by_kind: dict[str, Estimate]
    false_alarms: Estimate
    precision: Estimate


def errors(found: Found, planted: Sequence[str | bool | None]) -> Errors:
    """planted: of each text the kind of problem text in it, or True; None or False for none."""
    if len(planted) != found.texts:
        raise R1LabError(f"{found.texts} texts were searched, and {len(planted)} are labelled")
    all_of = Counter(kind for kind in planted if kind)
    right = Counter(planted[i] for i in found.problems if planted[i])
    hits, wrong = right.total(), len(found.problems) - right.total()
    return Errors(
        recall=_share(hits, all_of.total()),
        by_kind={str(kind): _share(right[kind], n) for kind, n in all_of.items()},
        false_alarms=_share(wrong, found.texts - all_of.total()),
        precision=_share(hits, hits + wrong),
    )


def _share(part: int, of: int) -> Estimate:
    return Estimate(part / of if of else float("nan"), *wilson(part, of))
