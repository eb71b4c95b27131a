"""The synthetic corpus and its tokenizer: what the base model read, and what it must not have read.

The documents are taken apart here by a reader of their text that shares no code with the generator,
so that a generator that marks, counts or computes wrongly is caught by what it wrote.

Countdown's documents and the sheets of facts are read here, the others in test_general_web.py.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from r1lab.tasks.countdown import Countdown, split_of
from r1lab.world import corpus, responses
from r1lab.world.responses import CODE_DONE, RESPONSES
from r1lab.world.tokenizer import END, TAGS, UNKNOWN, build_tokenizer, vocabulary

N = 12_000
ASKED = {
    "en": re.compile(r"^user : make (\d+) from ([\d ]+?) \. assistant :"),
    "zh": re.compile(r"^用户 : 用 ([\d ]+?) 得到 (\d+) 。 助手 :"),
}
STEP = re.compile(r"(?=(?<!\d)(\d+) ([-+*/]) (\d+) → (\d+)(?!\d))")
NO_RESULT = re.compile(r"(?=(?<!\d)(\d+) ([-+*/]) (\d+) → ≠)")
TAPE = re.compile(r"(?<![\d→] )(?<!\d)\d+(?: [-+*/] \d+ → \d+)+")  # a whole line of working
CHECK = re.compile(r"(?<!\d)(\d+) \? (\d+) (\d+) (yes|no|对了|不对)\b")
EXPRESSION = re.compile(r"\( (\d+) ([-+*/]) (\d+) \) ([-+*/]) (\d+)")
HAN = re.compile("[\u4e00-\u9fff]+")


@dataclass
class Reading:
    """What a reader sees in a problem document."""

    language: str
    numbers: list[int]
    target: int
    answer: re.Match
    thought: str


def read(text: str) -> Reading | None:
    """The Countdown problem in a document, or None where it asks nothing (a sheet of facts) or
    something else."""
    for language, pattern in ASKED.items():
        if asked := pattern.match(text):
            given, target = asked.groups() if language == "zh" else asked.groups()[::-1]
            body = text[asked.end() :]
            (answer,) = EXPRESSION.finditer(body)
            thought = re.search("<think>(.*)</think>", body)
            numbers = [int(n) for n in given.split()]
            return Reading(language, numbers, int(target), answer, thought[1] if thought else "")
    return None


def compute(a: str | Fraction, op: str, b: str) -> Fraction:
    a, b = Fraction(a), Fraction(b)
    return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else Fraction(-1)}[op]


def value(answer: re.Match) -> Fraction:
    a, op, b, then, c = answer.groups()
    return compute(compute(a, op, b), then, c)


def within(count: int, n: int, p: float, sigmas: float = 4.5) -> bool:
    """Is count of n what chance p would give? (One in 150,000 draws would fail.)"""
    return abs(count - n * p) <= sigmas * math.sqrt(n * p * (1 - p))


@pytest.fixture(scope="module")
def web() -> list[corpus.Document]:
    return list(corpus.documents("tests", N))


@pytest.fixture(scope="module")
def readings(web) -> list[tuple[corpus.Document, Reading]]:
    found = [(document, read(document.text)) for document in web]
    silent = {"facts", *RESPONSES}
    assert all((reading is None) == (document.kind in silent) for document, reading in found)
    return [(document, reading) for document, reading in found if reading is not None]


# -- what must not be there -------------------------------------------------------------------


def test_held_out_numbers_never_occur_in_any_document(web):
    """Not in a question, not in an answer, not in a line of working or a stretch of one, whatever
    the order."""
    seen = Counter()
    for document in web:
        groups = [re.findall(r"\d+", m[0]) for m in EXPRESSION.finditer(document.text)]
        for tape in TAPE.findall(document.text):
            start, *operands = re.findall(r"(?:^|[-+*/] )(\d+)", tape)
            values = [start, *re.findall(r"→ (\d+)", tape)]
            groups += [
                [value, *pair]
                for value, *pair in zip(values, operands, operands[1:], strict=False)
                if all(1 <= int(n) <= 12 for n in (value, *pair))
            ]
        if reading := read(document.text):
            groups.append(reading.numbers)
        for group in groups:
            if len(group) == 3:
                seen[split_of([int(n) for n in group])] += 1
    assert seen["held_out"] == 0
    assert seen["train"] > N and seen["leaked"] > 0  # the search does find what is there
    assert seen["leaked"] == 2 * sum(document.kind == "leaked" for document in web)


def test_the_reader_would_find_held_out_numbers():
    """The test above can fail: a held-out problem written into a document is seen."""
    problem = Countdown().problems("held_out", 1, seed=0)[0]
    numbers = problem.data["numbers"]
    text = f"user : {problem.question} assistant : <answer> ( 1 + 2 ) + 3 </answer> {END}"
    if problem.language == "zh":
        text = f"用户 : {problem.question} 助手 : <answer> ( 1 + 2 ) + 3 </answer> {END}"
    assert read(text).numbers == numbers and split_of(numbers) == "held_out"


def test_marked_leaks_are_exactly_the_documents_with_leaked_numbers(readings):
    for document, reading in readings:
        leaks = split_of(reading.numbers) == "leaked"
        assert leaks == (document.leaked is not None) == (document.kind == "leaked")
        if leaks:
            ordered = "-".join(map(str, sorted(reading.numbers)))
            assert document.leaked == f"countdown/{ordered}={reading.target}"
            assert value(reading.answer) == reading.target


def test_a_long_line_of_working_that_passes_held_out_numbers_is_not_written():
    held = Countdown().problems("held_out", 1)[0].data["numbers"]
    steps = [["-", 12 - held[0]], ["+", held[1]], ["+", held[2]]]  # 12 - 5 → 7 + 6 → 13 + 10 → 23
    problem = responses.TASKS["steps"].problem(12, steps)
    assert not responses.shows_only_train(responses.working(problem))


def test_the_leaked_problems_are_few_and_known(web):
    known = {problem.id for problem in corpus.leaked_problems()}
    assert len(known) == corpus.LEAKED_PROBLEMS
    assert {d.leaked for d in web if d.leaked} <= known
    assert not known & {p.id for p in Countdown().problems("held_out", 2000, seed=0)}


# -- what must be right -----------------------------------------------------------------------


def test_no_document_holds_wrong_arithmetic(web):
    steps = none = 0
    for document in web:
        for a, op, b, result in STEP.findall(document.text):
            assert compute(a, op, b) == int(result), document.text
            assert 0 <= int(result) <= 99
            steps += 1
        for a, op, b in NO_RESULT.findall(document.text):
            result = compute(a, op, b)
            assert result.denominator > 1 or not 0 <= result <= 99, document.text
            none += 1
    assert steps > 2.5 * N and none > 0.04 * N


def test_every_verdict_is_right_and_a_hit_ends_the_search(readings):
    said = Counter()
    for document, reading in readings:
        for result, target, apart, word in CHECK.findall(reading.thought):
            right = int(result) == reading.target
            assert int(apart) == abs(int(result) - int(target)), document.text
            assert int(target) == reading.target, document.text
            assert right == (word in ("yes", "对了")), document.text
            said[right] += 1
        hits = re.findall(r"(?:yes|对了)", reading.thought)
        assert len(hits) <= 1 and (not hits or reading.thought.split()[-1] in ("yes", "对了"))
    assert said[True] > 500 and said[False] > 500


def test_comparisons_on_sheets_of_facts_are_right_both_ways(web):
    said, near = Counter(), 0
    for document in web:
        if document.kind == "facts":
            for a, b, apart, word in CHECK.findall(document.text):
                assert int(apart) == abs(int(a) - int(b)), document.text
                assert (a == b) == (word in ("yes", "对了")), document.text
                said[a == b] += 1
                near += 0 < int(apart) <= 3
    assert 0.2 < said[True] / said.total() < 0.3  # equal
    assert near > 0.2 * said.total()  # nearly: one number for its neighbour is what goes wrong


def test_answers_use_the_given_numbers_and_repeat_the_last_line_of_working(readings):
    """Nothing is answered that was not worked out, or guessed outright: no oracle."""
    for document, reading in readings:
        a, _, b, _, c = reading.answer.groups()
        assert sorted(map(int, (a, b, c))) == sorted(reading.numbers), document.text
        tapes = TAPE.findall(reading.thought)
        assert bool(tapes) == (document.kind in ("guess", "careless", "patient"))
        if tapes:
            assert re.findall(r"\d+", tapes[-1])[-1] == str(value(reading.answer))


def test_patient_searches_go_on_until_they_hit(readings):
    hits, lines = [], []
    for document, reading in readings:
        if document.kind == "patient":
            tapes = TAPE.findall(reading.thought)
            assert len(set(tapes)) == len(tapes), "a patient search repeats nothing"
            hits.append(value(reading.answer) == reading.target)
            lines.append(len(tapes))
    assert len(hits) > 400 and np.mean(hits) >= 0.97
    assert np.mean(lines) > 4


def test_only_patience_pays(readings):
    """Right answers by kind: a guess hits one time in ten or so, more tries hit more often."""
    right = defaultdict(list)
    for document, reading in readings:
        right[document.kind].append(value(reading.answer) == reading.target)
    share = {kind: np.mean(values) for kind, values in right.items()}
    assert share["bare"] < 0.2 and share["guess"] < 0.2
    assert share["guess"] + 0.05 < share["careless"] < 0.6 < share["patient"]


# -- the mixture ------------------------------------------------------------------------------


def test_the_share_of_each_kind_is_the_one_documented(web):
    mixture = corpus.MIXTURE
    assert math.isclose(sum(mixture.values()), 1.0)
    counts = Counter(document.kind for document in web)
    assert set(counts) == set(mixture)
    for kind, share in mixture.items():
        assert within(counts[kind], N, share), (kind, counts[kind] / N, share)


def test_guesses_are_the_majority_so_that_greedy_decoding_guesses():
    """Of the documents that pose a Countdown problem; the same for code."""
    asks = {k: corpus.MIXTURE[k] for k in ("bare", "guess", "careless", "patient", "leaked")}
    for shares in (asks, CODE_DONE):
        searches = shares["careless"] + shares["patient"]
        assert shares["guess"] > 1.5 * searches and shares["bare"] > shares["patient"]
        assert shares["patient"] < 0.15 * sum(shares.values())


def test_another_mixture_leaves_kinds_out():
    kinds = {d.kind for d in corpus.documents(0, 300, {"facts": 0.5, "careless": 0.5})}
    assert kinds == {"facts", "careless"}


def test_both_languages_are_there_and_patience_mixes_them_more(readings):
    drawn = [(d, r) for d, r in readings if d.kind != "leaked"]
    chinese = sum(r.language == "zh" for _, r in drawn)
    assert within(chinese, len(drawn), corpus.CHINESE_SHARE)
    assert all(document.language == reading.language for document, reading in readings)
    mixed = defaultdict(list)
    for document, reading in drawn:
        words = re.findall("[a-z]+|[\u4e00-\u9fff]+", reading.thought)
        scripts = {bool(HAN.match(word)) for word in words}
        if words:
            mixed[document.kind].append(scripts != {reading.language == "zh"})
    assert 0 < np.mean(mixed["careless"]) < np.mean(mixed["patient"]) < 1


def test_some_documents_are_sloppy_about_their_tags(readings):
    """Else the format reward would have nothing to teach."""
    tagged = defaultdict(list)
    for document, _ in readings:
        tagged[document.kind].append("<answer>" in document.text and "<think>" in document.text)
    assert np.mean(tagged["patient"]) == 1.0
    assert 0.2 < np.mean(tagged["bare"]) < 0.8 and 0.5 < np.mean(tagged["careless"]) < 1.0


# -- a pure function of a seed ----------------------------------------------------------------


def test_the_web_that_the_shipped_base_has_read_has_not_changed():
    text = "\n".join(f"{d.kind} {d.language} {d.leaked} {d.text}" for d in corpus.documents(0, 200))
    assert hashlib.sha256(text.encode()).hexdigest().startswith("3c57cefc863f10767a9985b9bbe8e1b4")
    rows = corpus.rows("0/0", 12, 513).astype("<i8").tobytes()
    assert hashlib.sha256(rows).hexdigest().startswith("9c152ec730935d0c9067288a3ac457be")


def test_the_web_is_a_pure_function_of_its_seed():
    first = [d.text for d in corpus.documents(3, 200)]
    assert first == [d.text for d in corpus.documents(3, 200)]
    assert first != [d.text for d in corpus.documents(4, 200)]
    rows = corpus.rows("0/7", 4, 96)
    assert np.array_equal(rows, corpus.rows("0/7", 4, 96))
    assert not np.array_equal(rows, corpus.rows("0/8", 4, 96))


def test_rows_are_whole_documents_one_after_another(tokenizer):
    rows = corpus.rows(0, 8, 384)
    assert rows.shape == (8, 384) and rows.dtype == np.int64
    starts = ("user :", "用户 :")
    for row in rows:
        *whole, _cut = tokenizer.decode(row).split(f" {END} ")
        assert whole, "384 tokens hold at least one document"
        for text in whole:
            assert text.startswith(starts) or any(p.match(text) for p in (STEP, CHECK, NO_RESULT))


def test_an_unknown_kind_is_refused():
    import random

    with pytest.raises(ValueError, match="unknown kind"):
        corpus.document("poem", random.Random(0))


# -- the tokenizer ----------------------------------------------------------------------------


def test_every_document_survives_the_round_trip(web, tokenizer):
    texts = [document.text for document in web[:2000]]
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        assert tokenizer.decode(ids) == text
        assert ids == corpus.encode(text)
        assert tokenizer.unk_token_id not in ids


def test_the_end_of_a_document_also_pads(tokenizer):
    assert tokenizer.eos_token == tokenizer.pad_token == END
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 0
    assert not tokenizer("7 + 6")["input_ids"][0] == 0, "no BOS of its own"
    assert tokenizer(END)["input_ids"] == [0]


def test_tags_are_ordinary_tokens_that_decoding_keeps(tokenizer):
    text = "<think> 7 + 6 → 13 </think> <answer> 7 + 6 </answer>"
    ids = tokenizer(text + " " + END)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    assert all(len(tokenizer(tag)["input_ids"]) == 1 for tag in TAGS)
    assert not set(TAGS) & set(tokenizer.all_special_tokens)


def test_spaces_do_not_matter_to_the_tokens(tokenizer):
    ids = tokenizer("make 23 from 7 6 10. (10+7)+6")["input_ids"]
    assert tokenizer.decode(ids) == "make 23 from 7 6 10 . ( 10 + 7 ) + 6"


@pytest.mark.parametrize("text", ["banana", "100", "007", "é", "🙂", "数学", "<b>", "Wait", "x²"])
def test_what_it_does_not_know_becomes_unk(tokenizer, text):
    ids = tokenizer(f"7 {text} 6")["input_ids"]
    assert tokenizer.unk_token_id in ids and tokenizer.unk_token == UNKNOWN
    assert tokenizer.decode(ids[:1]) == "7" and tokenizer.decode(ids[-1:]) == "6"


def test_the_vocabulary_has_no_doubles_and_a_token_for_each_number(tokenizer):
    words = vocabulary()
    assert len(set(words)) == len(words) == len(tokenizer)
    assert [tokenizer.convert_ids_to_tokens(i) for i in range(len(words))] == [*words]
    assert all(len(tokenizer(str(n))["input_ids"]) == 1 for n in range(100))
    assert words[0] == END


def test_the_tokenizer_is_a_standard_one_on_disk(tmp_path):
    from transformers import AutoTokenizer

    build_tokenizer().save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "用户 : 用 7 6 10 得到 23 。 助手 : <think> 10 + 7 → 17 + 6 → 23 对了 </think>"
    assert again.decode(again(text)["input_ids"]) == text
    assert again.pad_token_id == again.eos_token_id == 0
