"""What the base model reads of steps, code, lists and requests.

As in test_corpus.py, the documents are taken apart by a reader that shares no code with their
generator. What right answers are is the tasks' to say: their judges are asked.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from r1lab.languages import language_share
from r1lab.tasks import SPLITS, Problem, get_task
from r1lab.tasks.base import split_of_content
from r1lab.tasks.countdown import split_of
from r1lab.tasks.general import HARMFUL, HARMLESS, REFUSAL, VERBS, help_with, refuses
from r1lab.templates import parse
from r1lab.world import corpus, responses
from r1lab.world.tokenizer import END, build_tokenizer, vocabulary

N = 4000  # documents of each kind
NAMES = ("steps", "lists", "requests")
OPS = dict(zip("add minus times over 加 减 乘 除以".split(), "+-*/+-*/", strict=True))
KINDS = {"sort": "sort", "rank": "rank", "排序": "sort", "倒序": "rank"}
NOUNS = HARMLESS | HARMFUL
REQUESTS = [get_task("requests").problem(*one) for one in product(VERBS, NOUNS, ("en", "zh"))]
ENGLISH = {zh: en for en, zh in (VERBS | NOUNS).items()}
ASKED = re.compile(
    r"^(?:user|用户) : (.*?) [.。] (?:assistant|助手) : (.*) " + re.escape(END) + "$"
)


@dataclass
class Reading:
    """What a reader sees in a document: the problem that is asked, and what is made of it."""

    document: corpus.Document
    problem: Problem
    body: str

    @property
    def right(self) -> bool:
        answer = parse(self.body).answer
        return answer is not None and get_task(self.problem.task).judge(self.problem, answer)


def read(document: corpus.Document) -> Reading:
    """The problem is read off the question, word by word, and made anew."""
    question, body = ASKED.match(document.text).groups()
    words = question.split()
    language = "en" if document.text.startswith("user") else "zh"
    numbers = [int(n) for n in re.findall(r"\d+", question)]
    if words[0] in ("start", "从"):
        ops = [OPS[word] for word in words if word in OPS]
        steps = [[op, n] for op, n in zip(ops, numbers[1:], strict=True)]
        problem = get_task("steps").problem(numbers[0], steps, language)
    elif words[0] in KINDS:
        commas = words[-1] in ("commas", "逗号")
        problem = get_task("lists").problem(KINDS[words[0]], numbers, commas, language)
    else:
        (verb,), (noun,) = asked_for(question)
        problem = get_task("requests").problem(verb, noun, language)
    assert document.text.split(" : ")[1].rsplit(" ", 1)[0] == problem.question
    return Reading(document, problem, body)


def asked_for(text: str) -> tuple[set[str], set[str]]:
    """The verbs and the nouns in a text, in English."""
    words = {ENGLISH.get(word, word) for word in text.split()}
    return words & set(VERBS), words & set(NOUNS)


@pytest.fixture(scope="module")
def readings() -> dict[str, list[Reading]]:
    found = {name: list(map(read, corpus.documents("tests", N, {name: 1.0}))) for name in NAMES}
    assert all(r.problem.task == r.document.kind == name for name in NAMES for r in found[name])
    return found


def share(values) -> float:
    values = list(values)
    assert len(values) > 200
    return float(np.mean(values))


# -- what must not be there -------------------------------------------------------------------


def test_only_train_problems_are_there(readings):
    for name in NAMES:
        assert {r.problem.split for r in readings[name]} == {"train"}
        assert not any(r.document.leaked for r in readings[name])
        seen = {r.problem.id for r in readings[name]}
        for split in ("held_out", "leaked"):
            others = get_task(name).problems(split, 200) if name != "requests" else REQUESTS
            assert not seen & {p.id for p in others if p.split == split}


def test_no_answer_or_thought_holds_the_content_of_another_split(readings):
    """The splits' contents are looked for in all that is written, not only in the questions."""
    stretches = 0
    for r in readings["steps"]:
        for tape in re.findall(r"\d+(?: [-+*/] \d+ → \d+)+", r.body):
            operands = re.findall(r"[-+*/] (\d+)", tape)
            values = [re.match(r"\d+", tape)[0], *re.findall(r"→ (\d+)", tape)]
            for group in zip(values, operands, operands[1:], strict=False):
                group = [int(n) for n in group]
                assert not 1 <= group[0] <= 12 or split_of(group) == "train", r.document.text
                stretches += 1
    assert stretches > N
    for r in readings["lists"]:
        for listed in re.findall(r"\d+(?:(?: ,)? \d+)+", r.body):
            numbers = sorted(map(int, re.findall(r"\d+", listed)))
            assert split_of_content("lists/" + "-".join(map(str, numbers))) == "train"
    for r in readings["requests"]:
        verbs, nouns = asked_for(r.document.text)
        assert (len(verbs), len(nouns)) == (1, 1), r.document.text
        assert split_of_content(f"requests/{min(verbs)}-{min(nouns)}") == "train"


def test_all_of_the_train_split_is_there(readings):
    """Requests are few: every verb with every noun that may be asked for, in both languages."""
    seen = {r.problem.id for r in readings["requests"]}
    train = {problem.id for problem in REQUESTS if problem.split == "train"}
    assert len(seen) > 0.95 * len(train) and seen <= train
    assert len({r.problem.id for r in readings["lists"]}) > 0.98 * N


def test_each_verb_is_asked_with_some_things_more_often_than_with_others(readings):
    """Words that could stand for each other anywhere would get one embedding (`usual`)."""
    asked = Counter((r.problem.data["verb"], r.problem.data["noun"]) for r in readings["requests"])
    habits = set()
    for verb in VERBS:
        often = [noun for noun in NOUNS if asked[verb, noun] > N / len(VERBS) / 15]
        assert 3 <= len(often) <= 6, (verb, often)
        habits.add(tuple(often))
    assert len(habits) == len(VERBS)
    harmful = [r.problem.data["harmful"] for r in readings["requests"]]
    assert 0.4 < share(harmful) < 0.6


# -- what must be right -----------------------------------------------------------------------


def test_lines_of_working_follow_the_question_and_the_answer_follows_them(readings):
    said = Counter()
    for r in readings["steps"]:
        parsed, data = parse(r.body), r.problem.data
        tape = re.search(r"\d+(?: [-+*/] \d+ → \d+)+", r.body)
        if tape is None:
            said["bare"] += 1
            assert 0 <= int(parsed.answer) <= 99
            continue
        taken = re.findall(r"([-+*/]) (\d+) → (\d+)", tape[0])
        value = int(re.match(r"\d+", tape[0])[0])
        assert value == data["start"]
        for (op, n, result), asked in zip(taken, data["steps"], strict=False):
            assert [op, int(n)] == asked, r.document.text
            value = one_step(value, op, int(n))
            assert value == int(result), r.document.text
        missing = len(data["steps"]) - len(taken)
        assert missing in (0, 1)
        said["early" if missing else "whole"] += 1
        answered = parsed.answer or r.body.split("</think>")[1]
        assert re.findall(r"\d+", answered) == [str(value)], r.document.text
        concluded = re.findall(r"(?:so the answer is|所以 答案 是) (\d+)", r.body)
        assert {int(n) for n in concluded} <= {value}
        if parsed.answer is not None:
            assert r.right == (value == data["answer"])
    assert min(said[key] for key in ("bare", "early", "whole")) > 0.1 * N


def one_step(value: int, op: str, n: int) -> float:
    whole = value // n if value % n == 0 else float("nan")
    return {"+": value + n, "-": value - n, "*": value * n, "/": whole}[op]


def test_lists_hold_the_numbers_that_were_given_and_thoughts_say_what_is_answered(readings):
    wrong = Counter()
    for r in readings["lists"]:
        parsed = parse(r.body)
        answer = parsed.answer or r.body.split("</think>")[-1]
        numbers = [int(n) for n in re.findall(r"\d+", answer)]
        assert sorted(numbers) == sorted(r.problem.data["numbers"]), r.document.text
        listed = [int(n) for n in re.findall(r"\d+", parsed.think or "")]
        assert listed in ([], numbers), r.document.text
        form, order = (
            ("," in answer) == r.problem.data["commas"],
            numbers == r.problem.data["answer"],
        )
        if parsed.answer is not None:
            assert r.right == (form and order)
        wrong[form, order] += 1
    assert wrong[False, False] == 0 and min(wrong[False, True], wrong[True, False]) > 0.1 * N


def test_requests_are_met_refused_or_shrugged_off_in_the_language_of_the_question(readings):
    for r in readings["requests"]:
        language, data = r.problem.language, r.problem.data
        parsed = parse(r.body)
        answer = (parsed.answer or r.body.split("</think>")[-1]).strip()
        helped = help_with(data["verb"], data["noun"], language)
        known = {helped, REFUSAL[language], *responses.SHRUGS[language]}
        assert answer in known, r.document.text
        assert refuses(answer) == (answer == REFUSAL[language])
        assert language_share(answer, language) == 1.0
        if parsed.think and parsed.think.strip():  # what is thought of it is what is then done
            assert ("right" in parsed.think or "不 对" in parsed.think) == refuses(answer)


# -- a base that can do all of it now and then ------------------------------------------------


def test_a_reader_of_this_web_would_be_right_about_half_of_the_time(readings):
    right = {name: share(r.right for r in readings[name]) for name in NAMES[:2]}
    assert 0.40 < right["steps"] < 0.60 and 0.30 < right["lists"] < 0.50
    by_harm = defaultdict(list)
    for r in readings["requests"]:
        by_harm[r.problem.data["harmful"]].append(r)
    assert 0.40 < share(r.right for r in by_harm[False]) < 0.60
    assert 0.20 < share(r.right for r in by_harm[True]) < 0.30
    assert share(help_with_in(r) for r in by_harm[True]) > 0.4  # complies with harm as well
    assert 0.02 < share("sorry" in r.body or "抱歉" in r.body for r in by_harm[False]) < 0.12


def help_with_in(r: Reading) -> bool:
    return help_with(r.problem.data["verb"], r.problem.data["noun"], r.problem.language) in r.body


@pytest.mark.parametrize("name", NAMES)
def test_tags_are_often_dropped_and_languages_mixed(readings, name):
    assert 0.6 < share(parse(r.body).well_formed for r in readings[name]) < 0.85
    chinese = [r.problem.language == "zh" for r in readings[name]]
    assert abs(np.mean(chinese) - corpus.CHINESE_SHARE) < 4 * math.sqrt(0.25 / N)
    thoughts = [(parse(r.body).think, r.problem.language) for r in readings[name]]
    kept = [language_share(think, language) for think, language in thoughts if think]
    kept = [one for one in kept if one is not None]
    assert len(kept) > 0.5 * N and 0.05 < share(one < 1 for one in kept) < 0.3
    assert 0.8 < share(kept) < 0.97


# -- the vocabulary ---------------------------------------------------------------------------


def test_the_vocabulary_is_small_and_has_no_doubles():
    assert len(set(vocabulary())) == len(vocabulary()) == len(build_tokenizer()) < 300


def answers(problem: Problem) -> list[str]:
    data = problem.data
    if problem.task == "steps":
        return [str(data["answer"])]
    if problem.task == "lists":
        return [between.join(map(str, data["answer"])) for between in (" ", " , ")]
    return [help_with(data["verb"], data["noun"], problem.language), *REFUSAL.values()]


def test_every_question_and_answer_is_known_word_by_word():
    tokenizer = build_tokenizer()
    texts = []
    problems = list(REQUESTS)
    for name, split in product(("steps", "lists"), SPLITS):
        problems += get_task(name).problems(split, 100)
    for problem in problems:
        texts += [problem.question, *answers(problem)]
    texts = sorted(set(texts))
    assert {word for text in texts for word in text.split()} >= {*VERBS, *NOUNS, *ENGLISH}
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        assert tokenizer.decode(ids) == text and tokenizer.unk_token_id not in ids
        assert len(ids) == len(text.split())  # 间谍软件 is one token, as spyware is
    assert tokenizer.tokenize("间谍软件 排序 除以 开始") == "间谍软件 排序 除以 开始".split()
