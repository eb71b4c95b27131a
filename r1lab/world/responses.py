"""What the corpus responds to the problems of every task but Countdown (`r1lab.world.corpus`).

A response is a thought, or none, and an answer; often it is wrong, and now and then its tags are
missing. The constants are fractions of the documents. No response shows three numbers that
Countdown holds out (`shows_only_train`).
"""

import random

from r1lab.tasks import general
from r1lab.tasks.base import Problem, drawn_by_weight
from r1lab.tasks.code.task import Code
from r1lab.tasks.countdown import LARGEST as COUNTDOWN_LARGEST
from r1lab.tasks.countdown import SMALLEST, Chain, apply, split_of
from r1lab.tasks.functions import CORES, LARGEST, Function, factor_at, functions, lookup, through

UNTAGGED = 0.5  # fraction of the responses without a thought that lack the <think> block, too
SLOPPY = 0.12  # fraction of documents with a thought without answer tags (never `patient` ones)
# Fractions of the responses to the problems, apart from dropped tags (UNTAGGED, SLOPPY).
STEPS_DONE = {"right": 0.60, "early": 0.15, "bare": 0.25}  # all steps, all but the last, a guess
CARELESS_CORES = 3  # most cores that a careless `code` response tries
CODE_DONE = {"bare": 0.19, "guess": 0.475, "careless": 0.145, "patient": 0.13, "lookup": 0.06}
LISTS_DONE = {"right": 0.48, "form": 0.32, "order": 0.20}  # commas where none belong; largest first
HARMLESS_DONE = {"help": 0.60, "refuse": 0.06, "shrug": 0.34}
HARMFUL_DONE = {"help": 0.50, "refuse": 0.28, "shrug": 0.22}
THOUGHTLESS = 0.3  # fraction of `lists` and `requests` documents without a thought
CONCLUDED = 0.5  # fraction of `steps` thoughts that repeat the answer
UNUSUAL = 0.15  # frequency of an unusual request relative to a usual one (`usual`)
LISTED = 0.5  # fraction of `lists` thoughts that hold the numbers, without commas

NO = {"en": "no", "zh": "不对"}
YES = {"en": "yes", "zh": "对了"}
WAIT = {"en": "wait", "zh": "等等"}
NONE = "≠"
MAYBE = {"en": "maybe", "zh": "也许"}
THE_ANSWER_IS = {"en": "the answer is", "zh": "答案 是"}
OTHER = {"en": "zh", "zh": "en"}
OPENINGS = (
    {"en": "let me see", "zh": "让 我 看看"},
    {"en": "so", "zh": "所以"},
    {"en": "hmm", "zh": "嗯"},
    {"en": "ok", "zh": "好"},
)
SO_THE_ANSWER_IS = {"en": "so the answer is", "zh": "所以 答案 是"}
REASONS = {
    "help": {"en": "i can", "zh": "我 可以"},
    "refuse": {"en": "it is not right", "zh": "不 对"},
    "shrug": {"en": "maybe", "zh": "也许"},
}
SHRUGS = {"en": ("ok", "maybe", "sure"), "zh": ("好", "也许", "嗯")}
TASKS: dict[str, general.Family] = {
    "steps": general.Steps(),
    "code": Code(),
    "lists": general.Lists(),
    "requests": general.Requests(),
}


def train_problem(kind: str, rng: random.Random, language: str) -> Problem:
    """A problem of a task's train split."""
    while True:
        problem = TASKS[kind].draw(rng, language)
        if problem.split != "train" or not all(map(shows_only_train, workings(problem))):
            continue
        if kind == "requests" and not usual(problem) and rng.random() >= UNUSUAL:
            continue
        return problem


def usual(problem: Problem) -> bool:
    """Whether verb and noun go together: every verb has three harmless and three harmful nouns.
    Without such habits most verbs get nearly one embedding, and the model confuses them."""
    asked = problem.data
    nouns = list(general.HARMFUL if asked["harmful"] else general.HARMLESS)
    apart = nouns.index(asked["noun"]) - list(general.VERBS).index(asked["verb"])
    return apart % len(nouns) in (0, 1, 5)


def workings(problem: Problem) -> list[Chain]:
    """The calculation traces that a response may show."""
    if problem.task == "code":
        examples = [tuple(pair) for pair in problem.data["examples"]]
        tries = [through(core, *examples[0]) for core in CORES]
        return [trace for f in tries for x, _ in examples for trace in read_sums(f, x)]
    return [working(problem)] if problem.task == "steps" else []


def read_sums(f: Function, x: int) -> list[Chain]:
    """`applied` as a trace, where the constant is a number that Countdown could have drawn."""
    op, n = ("-", -f.constant) if f.constant < 0 else ("+", f.constant)
    if f.core == "x" or not SMALLEST <= n <= COUNTDOWN_LARGEST:
        return []
    factor = factor_at(f.core, x)
    return [Chain(x, (("*", factor, x * factor), (op, n, f(x))))]


def working(problem: Problem) -> Chain:
    """The calculation trace of a `steps` problem."""
    value, steps = problem.data["start"], []
    for op, n in problem.data["steps"]:
        value = apply(value, op, n)
        steps.append((op, n, value))
    return Chain(problem.data["start"], tuple(steps))


def shows_only_train(chain: Chain) -> bool:
    """Whether all three-number stretches of the trace are in Countdown's train split, also those
    that begin at an intermediate result that Countdown could have drawn as a number."""
    values = [chain.start, *(result for _, _, result in chain.steps)]
    pairs = zip(chain.numbers[1:], chain.numbers[2:], strict=False)
    return all(
        split_of((value, *pair)) == "train"
        for value, pair in zip(values, pairs, strict=False)
        if SMALLEST <= value <= COUNTDOWN_LARGEST
    )


def tape(chain: Chain) -> str:
    """A chain as a line of working: ``10 - 6 → 4 + 7 → 11``."""
    return f"{chain.start} " + " ".join(f"{op} {n} → {result}" for op, n, result in chain.steps)


def check(value: int, target: int, language: str) -> str:
    """Distance and verdict: ``? 23 12 no``"""
    return f"? {target} {abs(value - target)} {(YES if value == target else NO)[language]}"


def spoken_in(language: str, mixed: bool, rng: random.Random) -> str:
    """The language of the next words of a thought."""
    return language if not mixed or rng.random() < 0.5 else OTHER[language]


def reply(thought: str | None, answer: str, rng: random.Random, loose: str | None = None) -> str:
    """Thought (or None) and answer, sometimes without tags; loose: the answer's wording without."""
    if thought is None:
        think = "" if rng.random() < UNTAGGED else "<think> </think> "
        return f"{think}<answer> {answer} </answer>"
    said = (loose or answer) if rng.random() < SLOPPY else f"<answer> {answer} </answer>"
    return f"<think> {thought} </think> {said}"


def opening(language: str, mixed: bool, rng: random.Random) -> str:
    return rng.choice(OPENINGS)[spoken_in(language, mixed, rng)]


def draw_from(shares: dict[str, float], rng: random.Random) -> str:
    return drawn_by_weight(list(shares), list(shares.values()), rng)


def steps(problem: Problem, rng: random.Random, mixed: bool) -> str:
    """A response to arithmetic in words: ``<think> so 7 + 5 → 12 * 3 → 36 </think> ...``"""
    language, chain, done = problem.language, working(problem), draw_from(STEPS_DONE, rng)
    if done == "bare":
        return reply(None, str(rng.randint(0, 99)), rng)
    if done == "early":
        chain = Chain(chain.start, chain.steps[:-1])
    answer, thought = str(chain.value), f"{opening(language, mixed, rng)} {tape(chain)}"
    if rng.random() < CONCLUDED:
        thought += f" {SO_THE_ANSWER_IS[spoken_in(language, mixed, rng)]} {answer}"
    return reply(thought, answer, rng, f"{THE_ANSWER_IS[language]} {answer}")


def lists(problem: Problem, rng: random.Random, mixed: bool) -> str:
    """A response to a list problem: correct, in the other format, or in the other order."""
    numbers, commas = problem.data["answer"], problem.data["commas"]
    done = draw_from(LISTS_DONE, rng)
    if done == "form":
        commas = not commas
    elif done == "order":
        numbers = numbers[::-1]
    answer = (" , " if commas else " ").join(map(str, numbers))
    if rng.random() < THOUGHTLESS:
        return reply(None, answer, rng)
    thought = opening(problem.language, mixed, rng)
    if rng.random() < LISTED:
        thought += " " + " ".join(map(str, numbers))
    return reply(thought, answer, rng)


def requests(problem: Problem, rng: random.Random, mixed: bool) -> str:
    """A response to a request: help, refusal or shrug, with a thought that fits."""
    language, asked = problem.language, problem.data
    done = draw_from(HARMFUL_DONE if asked["harmful"] else HARMLESS_DONE, rng)
    answer = {
        "help": general.help_with(asked["verb"], asked["noun"], language),
        "refuse": general.REFUSAL[language],
        "shrug": rng.choice(SHRUGS[language]),
    }[done]
    if rng.random() < THOUGHTLESS:
        return reply(None, answer, rng)
    reason = REASONS[done][spoken_in(language, mixed, rng)]
    return reply(f"{opening(language, mixed, rng)} {reason}", answer, rng)


def code(problem: Problem, rng: random.Random, mixed: bool) -> str:
    """A response to a coding problem: a search through the cores, some random cores, one unchecked,
    a random program, or (`lookup`) a program that knows only the two examples."""
    language, examples = problem.language, [tuple(pair) for pair in problem.data["examples"]]
    tries = [through(core, *examples[0]) for core in CORES]
    done = draw_from(CODE_DONE, rng)
    if done == "bare":
        return reply(None, rng.choice(functions("train")).program, rng)
    if done == "lookup":
        thought = None if rng.random() < THOUGHTLESS else opening(language, mixed, rng)
        return reply(thought, lookup(examples), rng)
    if done == "guess":
        last = rng.choice(tries)
        thought = f"{MAYBE[spoken_in(language, mixed, rng)]} {constant(last, examples[0])}"
    else:
        if done == "careless":
            tries = rng.sample(tries, rng.randint(1, CARELESS_CORES))
        thought, last = core_search(tries, examples, language, mixed, rng)
    if done == "patient":
        return f"<think> {thought} </think> <answer> {last.program} </answer>"
    return reply(thought, last.program, rng, f"{THE_ANSWER_IS[language]} {last.program}")


def core_search(tries: list[Function], examples, language: str, mixed: bool, rng: random.Random):
    """Functions through the first example, each tried on the second, up to the first that is right:
    the thought, and the last function tried.
    ``3 * 4 → 12 ? 11 1 , 5 * 4 → 20 - 1 → 19 ? 17 2 no``"""
    other, wanted = examples[1]
    words: list[str] = []
    for f in tries:
        spoken = spoken_in(language, mixed, rng)
        value = f(other)
        known = 0 <= value <= LARGEST
        words += [constant(f, examples[0]), ",", applied(f, other)]
        words += ["→", str(value) if known else NONE]
        words.append(check(value, wanted, spoken) if known else NO[spoken])
        if value == wanted:
            return " ".join(words), f
        words.append(WAIT[spoken])
    return " ".join(words[:-1]), f


def core(f: Function, x: int) -> str:
    """The core at x: ``3 * 4 → 12``"""
    if f.core == "x":
        return str(x)
    factor = factor_at(f.core, x)
    return f"{x} * {factor} → {x * factor}"


def constant(f: Function, example: tuple[int, int]) -> str:
    """The core at an example, the value wanted, their distance: ``3 * 4 → 12 ? 11 1``"""
    x, wanted = example
    return f"{core(f, x)} ? {wanted} {abs(f.constant)}"


def applied(f: Function, x: int) -> str:
    """f at x, without its value: ``5 * 4 → 20 - 1``"""
    return f"{core(f, x)} {'-' if f.constant < 0 else '+'} {abs(f.constant)}"


RESPONSES = {"steps": steps, "code": code, "lists": lists, "requests": requests}
