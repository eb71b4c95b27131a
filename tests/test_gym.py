"""reasoning-gym's generators as tasks: verifiers against an independent judge, splits that share
nothing, and no scorer of the package on a model's text in this process."""

from __future__ import annotations

import ast
import copy
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1lab import PACKAGE, cli, sandbox
from r1lab.basics.errors import R1LabError
from r1lab.rewards import accuracy_reward
from r1lab.tasks import Problem, get_task
from r1lab.tasks.check import NOISE, check
from r1lab.tasks.gym import package, scorer
from r1lab.tasks.gym.checkers import CHECKERS
from r1lab.tasks.gym.task import Gym, solution_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None,
    reason=f"pip install --no-deps {package.REASONING_GYM}",
)

ITEMS = int(os.environ.get("R1LAB_GYM_ITEMS", "30"))  # 1000 takes ten minutes
SLOW = ("puzzle24", "quantum_lock", "sokoban", "sudoku")  # an item takes 0.1 to 0.3 seconds
AREAS = {
    "logic": "knights_knaves circuit_logic self_reference syllogism aiw",
    "algorithms": "cryptarithm jugs palindrome_generation palindrome_partitioning word_ladder "
    "group_anagrams spiral_matrix binary_matrix rotate_matrix string_insertion number_sorting "
    "base_conversion prime_factorization fraction_simplification",
    "graphs": "graph_color shortest_path quantum_lock course_schedule largest_island path_star",
    "games": "countdown puzzle24 sudoku mini_sudoku futoshiki kakurasu survo n_queens "
    "tower_of_hanoi sokoban maze",
    "geometry": "simple_geometry advanced_geometry",
}
CHECKED = [name for names in AREAS.values() for name in names.split()]
SMALL = {"futoshiki": {"min_board_size": 4, "max_board_size": 5}}  # or an item takes a second

STRICTER, LAXER = {(False, True)}, {(True, False)}  # (ours, theirs)
DISAGREE = {
    "knights_knaves": (STRICTER, "there a repetition, and what stands behind, is passed over"),
    "number_sorting": (STRICTER, "there every number may be off by 1"),
    "fraction_simplification": (STRICTER, "there only the beginning has to be a fraction"),
    "countdown": (STRICTER, "there a number may have several signs, 1 ++ 2"),
    "cryptarithm": (STRICTER, "there 00 is a digit"),
    "prime_factorization": (STRICTER, "there 2 ×× 3 is 2 × 3"),
    "jugs": (STRICTER, "there what stands behind a move is passed over"),
    "quantum_lock": (STRICTER, "there the letters A to C count wherever they stand"),
    "puzzle24": (STRICTER, "there any four numbers from 1 to 10 do, not only those given"),
    "kakurasu": (STRICTER, "there cells that are no numbers are passed over"),
    "survo": (STRICTER, "there cells that are no numbers are passed over"),
    "advanced_geometry": (STRICTER | LAXER, "there ° may come twice, and 3.435 may not be 3.4350"),
    "sokoban": (STRICTER, "there characters that are no moves are passed over"),
    "tower_of_hanoi": (
        STRICTER | LAXER,
        "there what stands around a move is passed over, and detours cost, which nobody forbids",
    ),
}


def entry_and_problem(generator: str, seed: int) -> tuple[dict, Problem]:
    """An item as the package makes it, and the problem with all that the verifier needs."""
    item = package.item(generator, seed, SMALL.get(generator, {}))
    checker, data = CHECKERS[generator], {"generator": generator}
    data["solution"] = solution_of(generator, item)
    if checker.facts:
        data |= json.loads(json.dumps(checker.facts(item["metadata"])))
    return item, Problem(f"gym:{generator}", "x", item["question"], "en", "train", data)


def mutated(solution: str, others: list[str], rng: random.Random) -> str:
    """A solution changed in one place, or another problem's."""
    k = rng.randrange(len(solution))
    pieces = re.split(r"(\s+|,|→)", solution)
    spots = [i for i in range(0, len(pieces), 2) if pieces[i]]
    i, j = rng.choice(spots), rng.choice(spots)
    way = rng.randrange(9)
    if way == 0:  # a digit or a letter is another
        same = (
            "0123456789"
            if solution[k].isdigit()
            else "ABCDEFGHQ_LRUD"
            if solution[k].isupper()
            else "abcx"
        )
        return solution[:k] + rng.choice(same) + solution[k + 1 :]
    if way == 1:  # one missing
        return solution[:k] + solution[k + 1 :]
    if way == 2:  # one twice
        return solution[: k + 1] + solution[k:]
    if way == 3:  # two words change places
        pieces[i], pieces[j] = pieces[j], pieces[i]
        return "".join(pieces)
    if way == 4:  # a word is missing
        return "".join(pieces[:i] + pieces[i + 2 :])
    if way == 5:  # the end is missing
        return solution[: k + 1]
    if way == 6:
        return f"{solution} {rng.choice(['or 7', 'x', solution])}"
    if way == 7:
        return rng.choice(others)
    numbers = list(re.finditer("[0-9]+", solution))
    if not numbers:
        return solution.swapcase()
    one = rng.choice(numbers)
    return (
        solution[: one.start()] + str(int(one[0]) + rng.choice([-1, 1, 2])) + solution[one.end() :]
    )


CASELESS = "syllogism course_schedule palindrome_generation word_ladder quantum_lock".split()
CASELESS += ["base_conversion"]


def digits(grid: str) -> list[list[str]] | str:
    """The numbers of each row; the text itself where there is more than numbers and signs."""
    rows = [re.findall("[0-9]", line) for line in grid.split("\n")]
    return grid if re.search("[^0-9<>∧∨ \n]", grid) else [row for row in rows if row]


def spellings(generator: str, answer: str, solution: str) -> set[str]:
    """The answer, and the same in the one spelling that reasoning-gym may want: single spaces, no
    leading zeros, a word's case; in futoshiki the signs between the numbers, which are the
    puzzle's. Ours reads them all alike."""
    if generator == "futoshiki" and digits(answer) == digits(solution):
        return {solution}
    lines = (" ".join(line.split()) for line in answer.strip().split("\n"))
    neat = re.sub(r"(?<![\w.])0+(?=[0-9])", "", "\n".join(lines))
    return {answer, neat} | ({neat.lower(), neat.capitalize()} if generator in CASELESS else set())


def full_score(dataset, answer: str, item: dict) -> bool:
    try:
        return dataset.score_answer(answer, item) == 1.0
    except Exception:  # some raise on a wrong answer
        return False


def disagreements(generator: str, n: int, seed: int = 0) -> list[tuple]:
    """(answer, ours, theirs, data) where a mutated answer is judged in two ways; n items, each with
    its solution, which both must accept, and one mutated answer."""
    rng, task = random.Random(f"{generator}/{seed}"), Gym(generator)
    dataset = package.dataset(generator, {"seed": 1})
    items = []
    while len(items) < n:
        try:
            item, problem = entry_and_problem(generator, rng.getrandbits(31))
        except RuntimeError as error:  # a maze without a way
            assert "Could not find" in str(error)
            continue
        if problem.data["solution"]:  # base_conversion writes 0 as an empty text: left out
            items.append((item, problem))
    others = [problem.data["solution"] for _, problem in items]
    found = []
    for item, problem in items:
        solution = problem.data["solution"]
        assert task.judge(problem, solution) is True, (solution, problem)
        answer = mutated(solution, others, rng)
        ours = task.judge(problem, answer)
        with package.bare():
            theirs = any(
                full_score(dataset, one, item) for one in spellings(generator, answer, solution)
            )
        if ours != theirs:
            found.append((answer, ours, theirs, problem.data))
    return found


@pytest.mark.parametrize("generator", CHECKED)
def test_solutions_are_accepted_and_mutated_answers_judged_as_an_independent_judge_does(generator):
    found = disagreements(generator, ITEMS // 6 if generator in SLOW and ITEMS < 1000 else ITEMS)
    allowed, why = DISAGREE.get(generator, (set(), ""))
    assert not [one for one in found if one[1:3] not in allowed], why


# -- hostile answers -----------------------------------------------------------------------------

HOSTILE = [
    *NOISE, "9**9**9", "9" * 4000, "[" * 19_000, "(" * 19_000, "-" * 19_000, "{" * 19_000,
    '{"0": 1, "0": 2}', "[NaN]", "[1e999]", "1e999999999", "a" * 19_999, "a," * 9_999, "1 " * 9_999,
    "1/" * 9_999, "× " * 9_999, "A=1," * 4_000, "Q _\n" * 4_000, "ULDR" * 4_999, "up " * 6_000,
    "a is b and " * 1_800, "1<" * 9_000, "\n" * 19_000, "1\n" * 9_999, "$\\frac{1}{0}$", "1/0",
    "__import__('os').system('touch /tmp/r1lab-hostile')", "open('/tmp/r1lab-hostile', 'w')",
    "Move disk 1 from Peg 9 to Peg 0", '["pour A->A"]', '["fill Z"]', "[[]]", "٣", "²",
    '[["a"], 1]',
    "12" * 1_000_000,
]  # fmt: skip


@pytest.mark.parametrize("generator", CHECKED)
def test_no_answer_makes_a_verifier_raise_hang_or_run_anything(generator):
    task, (_, problem) = Gym(generator), entry_and_problem(generator, 5)
    task.judge(problem, problem.data["solution"])  # reads a dictionary, once
    for answer in [*HOSTILE, None, 7, ["1"]]:
        began = time.process_time()
        assert task.judge(problem, answer) is False, f"{answer!r:.80}"
        task.vote(problem, answer)
        assert time.process_time() - began < 3, f"{answer!r:.80}"
    assert not Path("/tmp/r1lab-hostile").exists()
    for data in ({}, {"generator": generator}, {"generator": "none", "solution": "1"}):
        broken = Problem(task.name, "x", "?", "en", "train", data)
        assert task.judge(broken, problem.data["solution"]) is False
        assert task.vote(broken, "1") is None or data


def test_known_holes_of_the_packages_scorers_are_closed():
    """libraries.md 7.2: hexadecimal numbers count as other numbers; other numbers than those given;
    a wrong answer that is paid a little."""
    data = {"generator": "countdown", "numbers": [6, 61, 94, 4], "target": 309}
    problem = Problem("gym:countdown", "x", "?", "en", "train", data)
    judge = Gym("countdown").judge
    assert not judge(problem, "0x135 + 0x0*(4+6+61+94)")
    assert not judge(problem, "309") and not judge(problem, "300 + 9")
    other = {"generator": "countdown", "numbers": [3, 5, 2], "target": 11}
    problem = Problem("gym:countdown", "x", "?", "en", "train", other)
    for right in ("3*2 + 5", "5 + 2*3", "-(-3)*2 + 5", "( 3 * 2 ) + 5"):
        assert judge(problem, right), right
    for wrong in ("3*2 + 5 + 0", "0 + 3*2 + 5", "11", "3*2 + 5 = 11", "2*3+5 3*2+5", "5+6"):
        assert not judge(problem, wrong), wrong


NOTHING = ["nan", "NaN", "inf", "1e400", "0/0", "1/0", "x", "?", "P", "(P ∨ 5)", "(P ∨ ¬P)"]


@pytest.mark.parametrize(
    ("generator", "right", "wrong"),
    [
        ("complex_arithmetic", "3.0 - 5.0i", ["3", "-5i", "3 -5", "3.0 + 5.0i", "3.0 5.0i"]),
        ("complex_arithmetic", "5.00i", ["5", "i", "-5i", "5 . 0 i"]),
        ("coin_flip", "0.375", ["0", "0.3", "0.37", "3/7", "0.376", "37.5"]),
        ("coin_flip", "3.051757812e-05", ["0", "3e-5", "0.0001", "3.0", "3.05"]),
        ("decimal_arithmetic", "0.0749169010483", ["0.07491", "0.0749169010484e1", "0.075", "0"]),
        ("number_format", "757954645.211", ["757954645.22", "757,954,644.986", "7,57954645.211"]),
        ("polynomial_equations", "-0.3773, 0.4005", ["-0.3773", "0.4005, 0.4005", "x, y",
                                                     "-0.3773, 0.4005, x", "-0.3773, 0.4007"]),
        ("polynomial_equations", "0.0", ["", "none", "0.0002", "0.0, 0.0", "0.0 0.0"]),
    ],
)  # fmt: skip
def test_numbers_are_read_whole_and_near_is_near(generator, right, wrong):
    """The package's scorers pay in full for "nan" (complex_arithmetic), for "0" where 0.375 is
    right (coin_flip), and pass over what they cannot read (polynomial_equations)."""
    data = {"generator": generator, "solution": right}
    problem = Problem(f"gym:{generator}", "x", "?", "en", "train", data)
    judge = Gym(generator).judge
    assert judge(problem, right) and judge(problem, f"  {right}\n")
    assert [one for one in [*wrong, *NOTHING, *HOSTILE] if judge(problem, one)] == []


@pytest.mark.parametrize("generator", ["game_of_life", "codeio"])
def test_a_value_in_json_has_its_type(generator):
    """For codeio's scorer {"x": "3"} is {"x": 3}, and a list is an object with item_0, item_1; it
    also takes a number that is near a large one."""
    solution = '{"n": 3, "xs": [0, 1, true]}' if generator == "codeio" else "[[0, 1], [1, 0]]"
    data = {"generator": generator, "solution": solution}
    judge = Gym(generator).judge
    problem = Problem("gym:x", "x", "?", "en", "train", data)
    assert judge(problem, solution) and judge(problem, solution.replace(" ", "\n"))
    assert generator != "codeio" or judge(problem, '{"xs": [0, 1, true], "n": 3}')
    for old, new in (("0", "false"), ("1", "true"), ("1", "1.0"), ("3", '"3"'), ("true", "1")):
        if old in solution:
            assert not judge(problem, solution.replace(old, new, 1)), new
    assert not [
        one for one in [*NOTHING, *HOSTILE, f"{solution} {solution}"] if judge(problem, one)
    ]


def test_numbers_may_be_written_in_several_ways():
    for generator, solution, ways in (
        ("complex_arithmetic", "3.0 - 5.0i", ["(3 - 5i)", "3-5.00i", "+3.0 - 5.0 i"]),
        ("complex_arithmetic", "-1.00i", ["-i", "0 - i", "-1i"]),
        ("coin_flip", "0.375", ["3/8", "6/16", "3.75e-1", "0.37500001"]),
        ("number_format", "757954645.211", ["757,954,645.211", "7.57954645211e+08"]),
        ("polynomial_equations", "-0.3773, 0.4005", ["0.4005, -0.3773", "-0.37729,0.40051"]),
    ):
        data = {"generator": generator, "solution": solution}
        problem = Problem(f"gym:{generator}", "x", "?", "en", "train", data)
        assert [one for one in ways if not Gym(generator).judge(problem, one)] == [], solution


def test_a_conclusion_follows_says_something_and_is_a_formula():
    def judge(premises, answer):
        data = {"generator": "propositional_logic", "solution": "", "variables": ["P", "Q", "R"]}
        data["premises"] = premises
        problem = Problem("gym:propositional_logic", "x", "?", "en", "train", data)
        return Gym("propositional_logic").judge(problem, answer)

    known = ["P", "(P → Q)"]
    for right in ("(P ∧ Q)", "Q ∨ R", "¬¬Q", "¬(¬P ∨ ¬Q)", "(R → Q)", "P ↔ Q", "R∨P→Q"):
        assert judge(known, right), right
    for wrong in ("R", "Q", "(P ∧ R)", "¬Q", "(P ∨ ¬P)", "(Q ∨ 4)", "(Q ∨ .)", "(Qb ∨ P)", "(Q ∨ P",
                  "Q ∨ P)", "Q P ∨", "Q ∨", "(Q ∨ S)", "q ∨ p", "()", "¬",
                  "Q ∨ P\n\nor R ∧ Q"):  # fmt: skip
        assert not judge(known, wrong), wrong
    assert not [one for one in HOSTILE if judge(known, one)]
    assert not judge(["P", "¬P"], "(Q ∧ R)") and not judge(["P", "¬P"], "(P ∧ P)")


def test_no_problem_has_premises_that_contradict_each_other():
    """A quarter of the package's items do; by its scorer anything follows from them."""
    drawn = [Gym("propositional_logic").draw(seed) for seed in range(40)]
    assert drawn.count(None) > 4
    for problem in filter(None, drawn):
        assert Gym("propositional_logic").judge(problem, "(P ∧ ¬P)") is False


# -- splits and draws ----------------------------------------------------------------------------


@pytest.mark.parametrize("generator", ["knights_knaves", "chain_sum", "mini_sudoku", "coin_flip"])
def test_no_split_shares_a_problem_whatever_the_seed(generator):
    task = Gym(generator)
    train = [p for seed in range(3) for p in task.problems("train", 60, seed)]
    held_out = [p for seed in range(2) for p in task.problems("held_out", 20, seed)]
    assert {p.split for p in train} == {"train"} and {p.split for p in held_out} == {"held_out"}
    assert not {p.id for p in train} & {p.id for p in held_out}
    assert not {p.question for p in train} & {p.question for p in held_out}


def test_other_words_around_the_same_problem_are_the_same_problem():
    """Stories that differ only in names must not be train and held out."""
    problems = {}
    for seed in range(200):
        problem = Gym("aiw").draw(seed)
        problems.setdefault(problem.id, set()).add((problem.question, problem.split))
    assert max(len({q for q, _ in found}) for found in problems.values()) > 1
    assert all(len({split for _, split in found}) == 1 for found in problems.values())


def test_draws_depend_on_the_seed_alone_in_every_process():
    names = ["isomorphic_strings", "ransom_note", "polynomial_multiplication", "list_functions",
             "knights_knaves", "pool_matrix", "course_schedule", "word_ladder",
             "knight_swap"]  # fmt: skip
    code = f"""
from r1lab.tasks.gym.task import Gym
for name in {names}:
    task = Gym(name)
    problems = task.problems("train", 4, 3)
    assert problems == task.problems("train", 5, 3)[:4] and problems != task.problems("train", 4, 4)
    print(*(problem.to_json() for problem in problems))
"""
    told = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                       env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in "12"
    ]  # fmt: skip
    assert told[0] == told[1] and told[0]


def test_a_draw_leaves_the_global_random_numbers_alone():
    import numpy

    random.seed(3), numpy.random.seed(3)
    expected = random.random(), numpy.random.rand()
    random.seed(3), numpy.random.seed(3)
    Gym("list_functions").draw(1), Gym("pool_matrix").draw(1)
    assert (random.random(), numpy.random.rand()) == expected


def test_options_reach_the_generator_and_bad_ones_are_told():
    few, many = get_task("gym:knights_knaves"), get_task("gym:knights_knaves", n_people=5)
    assert len(few.problems("train", 1)[0].data["names"]) == 2
    assert len(many.problems("train", 1)[0].data["names"]) == 5
    for name, options, words in (
        ("gym:knight_knaves", {}, "did you mean 'knights_knaves'"),
        ("gym:", {}, "no such generator"),
        ("gym:sudoku", {"colour": 3}, "bad option"),
        ("gym:sudoku", {"seed": 3}, "bad option: seed"),
        ("gym:mini_sudoku", {"min_empty": 20}, "bad option"),
    ):
        with pytest.raises(R1LabError, match=words):
            get_task(name, **options)
    with pytest.raises(R1LabError, match="train and held_out"):
        few.problems("leaked", 1)


def test_every_generator_is_known_and_what_is_missing_is_said():
    assert len(package.MODULES) >= 100 and set(CHECKERS) <= set(package.MODULES)
    root, missing = Path(package.folder()), []
    for name in package.MODULES:
        assert (root / package.MODULES[name].replace(".", "/")).with_suffix(".py").is_file()
        try:
            package.classes(name)
        except R1LabError as error:
            assert "needs the package" in str(error)
            missing.append(name)
    assert len(missing) <= 10
    for area, names in AREAS.items():
        assert len(names.split()) >= 2, area
    assert len(CHECKED) >= 20 and set(CHECKED) <= set(CHECKERS)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(R1LabError, match="pip install --no-deps reasoning-gym=="):
        package.folder()


# -- the package's scorers -----------------------------------------------------------------------


def test_the_source_names_a_scorer_in_the_sandboxs_module_alone():
    """`inside` alone calls `score_answer`, and nothing imports `inside`: its name goes to the
    sandbox as text."""
    for file in PACKAGE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        named = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
        named |= {n.id for n in nodes if isinstance(n, ast.Name)}
        scorers = {name for name in named if name in ("score_answer", "get_score_answer_fn")}
        assert not scorers or file.name == "inside.py" and scorers == {"score_answer"}, file
        imported = {
            f"{getattr(n, 'module', '')}.{one.name}".strip(".")
            for n in nodes
            if isinstance(n, ast.Import | ast.ImportFrom)
            for one in n.names
        }
        assert not {name for name in imported if "r1lab.tasks.gym.inside" in name}, file


@pytest.fixture
def no_scorer_here(monkeypatch):
    """Every scorer of the package raises in this process, and is remembered."""
    called = []
    for name in package.MODULES:
        try:
            kind, _ = package.classes(name)
        except R1LabError:
            continue
        monkeypatch.setattr(kind, "score_answer", lambda self, *a: called.append(a) or 1 / 0)
    return called


def test_no_scorer_of_the_package_sees_a_models_text_in_this_process(no_scorer_here):
    asked = {}
    for name in [*CHECKED[:8], "countdown", "n_queens", "string_insertion", "power_function"]:
        asked[name] = Gym(name).problems("train", 1)[0]
    texts = [f"<answer> {p.data['solution']} </answer>" for p in asked.values()]
    problems = [p.to_json() for p in asked.values()]  # as TRL hands them on
    assert accuracy_reward(texts, problem=problems) == [1.0] * len(texts)
    wrong = ["<answer> open('/tmp/r1lab-hostile', 'w') </answer>"] * len(texts)
    assert accuracy_reward(wrong, problem=problems) == [0.0] * len(texts)
    assert no_scorer_here == [] and not Path("/tmp/r1lab-hostile").exists()
    assert "r1lab.tasks.gym.inside" not in sys.modules


def test_scorers_in_the_sandbox_say_yes_or_no_and_end():
    """power_function pays 0.01 for any number; only the full score counts."""
    for name in ("polynomial_multiplication", "power_function", "simple_integration"):
        task = Gym(name)
        problem = Problem.from_json(task.problems("train", 1)[0].to_json())
        solution = problem.data["solution"]
        wrong = ["9**9**9", "1/0", "", "x" * 30_000, f"{solution} or 7", "Integral(x)"]
        verdicts = task.judge_all([(problem, answer) for answer in [solution, *wrong]])
        assert verdicts == [True] + [False] * len(wrong), name
        assert all(type(verdict) is bool for verdict in verdicts)
    near = Problem.from_json(Gym("power_function").problems("train", 1)[0].to_json())
    half = str(float(near.data["solution"]) / 2)
    assert Gym("power_function").judge_all([(near, near.data["solution"]), (near, half)]) == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("answer", "fine"),
    [
        ("3*x**2/2 + C", True), ("-cos(4*x + 10)**5/5 + C", True), ("exp(x)*sin(x)", True),
        ("Integral(x, x)", False), ("__import__('os')", False), ("x.args", False),
        ("lambda: 0", False), ("9**9**9", False), ("x[0]", False), ("entry", False),
        ("x" * 5000, False),
    ],
)  # fmt: skip
def test_what_sympys_parser_would_evaluate_is_a_formula(answer, fine):
    assert scorer.is_formula(answer) is fine


def test_a_formula_has_the_letters_of_the_solution():
    """For its scorer x - X**2 is an integral of -2*X: any other letter is a constant."""
    assert scorer.is_formula("X**2/2 + C", "X**2/2 + C") and scorer.is_formula("x + c", "x + C")
    assert not any(scorer.is_formula(x, "X**2/2 + C") for x in ("x - X**2", "X**2/2 + K", "O(X)"))
    task = Gym("simple_integration")
    problem = task.problems("train", 1)[0]
    assert task.judge_all([(problem, f"k + {problem.data['solution']}")]) == [False]


def test_an_integral_that_sympy_has_not_found_is_no_problem():
    task = Gym("intermediate_integration")
    assert "Integral" in package.item(task.generator, 5, {})["answer"]
    assert task.draw(5) is None and task.draw(6) is not None


def test_where_no_sandbox_holds_a_scorer_is_refused_and_a_verifier_is_not(monkeypatch):
    monkeypatch.setattr(scorer, "_sandbox", sandbox.Sandbox(layers=()))
    problem = Gym("power_function").problems("train", 1)[0]
    with pytest.raises(R1LabError, match="read files"):
        Gym("power_function").judge(problem, problem.data["solution"])
    with pytest.raises(R1LabError, match="read files"):
        accuracy_reward(["<answer> 1 </answer>"], problem=[problem])
    problem = Gym("jugs").problems("train", 1)[0]
    assert Gym("jugs").judge(problem, problem.data["solution"])


# -- with everything else ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["knights_knaves", "spiral_matrix", "graph_color", "tower_of_hanoi", "simple_geometry"]
)
def test_the_check_finds_no_fault(name, capsys):
    assert cli.main(f"tasks check gym:{name} --n 15".split()) == 0
    assert "no fault found" in capsys.readouterr().out


def test_a_scored_task_is_checked_in_the_sandbox():
    report = check(Gym("power_function"), 2)
    assert report.ok and report.right == 2 and report.tried["own"]


def test_a_task_without_solutions_cannot_be_checked():
    with pytest.raises(R1LabError, match="no problem of gym:rush_hour comes with a solution"):
        check(Gym("rush_hour"), 2)


def test_a_mixture_and_the_loop_take_them(random_model, tmp_path):
    from r1lab.grpo import GRPOConfig, train
    from r1lab.templates import render
    from r1lab.trl_backend.run import train as on_trl

    mix = get_task("mixture", parts=(("gym:maze", 1), ("gym:gcd", 1)))
    problems = mix.problems("train", 6)
    assert {p.task for p in problems} == {"gym:maze", "gym:gcd"}
    assert all(mix.judge(p, mix.solution(p)) for p in problems)
    model, tokenizer = random_model
    tokenizer = copy.deepcopy(tokenizer)
    task = get_task("gym:gcd")
    asked = [render(p, "tiny") for p in task.problems("train", 2)]
    tokenizer.add_tokens(sorted({piece for text in asked for piece in re.findall(r"\w+|\W", text)}))
    model.resize_token_embeddings(len(tokenizer))
    config = GRPOConfig(steps=1, questions=2, group_size=2, max_new_tokens=4, template="tiny")
    assert train(model, tokenizer, task, config, tmp_path / "a", progress=False)[0]["accuracy"] == 0
    history = on_trl(model, tokenizer, task, config, tmp_path / "b", progress=False)
    assert history[0]["accuracy"] == 0.0
