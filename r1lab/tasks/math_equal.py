r"""Are two mathematical answers equal?  math-verify compares them, in a process that can be killed.

MATH answers are formulas: `\frac{3}{2}`, `1.5` and `x = 3/2` are one answer.  math-verify
(github.com/huggingface/math-verify) reads them as LaTeX and compares them with sympy.  Under RL the
text is hostile, if only by accident: `9**9**9` keeps sympy busy for hours inside one C call.
math-verify's own limit is `signal.alarm`, which Python only delivers in the main thread and only
between two steps of Python code, so it neither works in a thread nor stops that C call.

So one *worker process* does the comparing and we ask it through a pipe:

- text that is too long or oddly built is refused before it is asked about (`readable`), and so is
  an answer that leaves its work to the judge (`finished`);
- in the worker a comparison has CPU_SECONDS of processor time.  First a signal that Python turns
  into an exception; if that does not help, a second one ends the process, whatever C code it is in.
  Both count processor time, not the clock, so a busy machine does not change a verdict;
- WALL_SECONDS by the clock, after which we kill it ourselves (and the only limit on Windows);
- the worker may use 4 GB of memory and write no file.

A worker that died is replaced, and the answer it died of is wrong.  A usual comparison takes some
milliseconds, a repeated one none: verdicts are remembered.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from functools import lru_cache

from r1lab.basics.errors import R1LabError

MAX_CHARS = 300  # the longest answers of MATH have some 150 characters
MAX_NESTING = 8  # braces and brackets within each other
CPU_SECONDS = 0.5
WALL_SECONDS = 60.0 if os.name == "posix" else 5.0
START_SECONDS = 120.0  # importing sympy: a second, and much more on a machine that is overloaded

TOWER = re.compile(r"[0-9]\s*\^\s*\{?\s*[0-9]+\s*\^|\^\s*\{?\s*[0-9]{5,}")
"""A power of a power of numbers, or an exponent of five digits: nobody's answer, and what costs the
worker its life.  Refusing it saves the second that the next one needs to start."""

REWRITTEN = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"(?:\{\})?\s*\^\s*(?:\\(?:circ|degree)(?![A-Za-z])|°)", r"^\\circ"),
        (r"(?:\{\})?\s*\^\s*\{\s*(?:\\circ|\\degree|°)\s*\}", r"^\\circ"),
        (r"\s*(?:\\degree(?![A-Za-z])|°)", r"^\\circ"),
        (r"(?<=\d),\s*\\!\s*(?=\d{3})", ","),
        (r"(?<![\d./])(\d+) (\d+)/(\d+)(?![\d./])", r"\1\\frac{\2}{\3}"),
        (r"(?<=\d)i(?![A-Za-z])", " i"),
        (r"\\(text|mbox) \{", r"\\\1{"),
    )
)
"""What math-verify does not read, or reads as something else: 90°, 1, \\! 000, 3 1/2, and the i of
5-2i, which it takes for a variable (that of 5-2 i is the imaginary unit)."""


def equal(gold: str, answer: str) -> bool:
    """Is `answer` mathematically equal to `gold` (LaTeX or plain)?  Never raises on any text.

    Raises R1LabError only where math-verify is not installed: then no answer can be judged.
    """
    gold, answer = clean(gold), clean(answer)
    if gold is None or answer is None:
        return False
    if gold == answer:
        return True
    for pattern, new in REWRITTEN:
        gold, answer = pattern.sub(new, gold), pattern.sub(new, answer)
    if "=" not in gold:
        answer = re.sub(r"^[A-Za-z] ?= ?(?=[^=]+$)", "", answer)
    if TOWER.search(answer) or not finished(gold, answer):
        return False
    return _ask(gold, answer)


def clean(text: str) -> str | None:
    r"""An answer without its wrapping: one `$…$`, `\(…\)` or `\boxed{…}` around it, and a full
    stop at its end; None for a text that cannot be one answer."""
    if not readable(text):
        return None
    text = " ".join(text.split())
    for _ in range(4):
        bare = text.rstrip(".").strip()
        for start, end in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
            if len(bare) > len(start + end) and bare.startswith(start) and bare.endswith(end):
                bare = bare[len(start) : -len(end)].strip()
                break
        inside = boxed(bare)
        if inside is not None and bare == rf"\boxed{{{inside}}}":
            bare = inside.strip()
        if bare == text:
            break
        text = bare
    several = "$" in text.replace(r"\$", "") or r"\boxed" in text or r"\fbox" in text
    return None if several or not text else text


def readable(text: str) -> bool:
    """Short, printable, with balanced and not too deeply nested brackets.  Linear in MAX_CHARS."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_CHARS:
        return False
    if not all(char.isprintable() or char in "\n\t\r" for char in text):
        return False
    depth = braces = 0
    for char in text:
        depth += (char in "{[(") - (char in "}])")  # intervals such as [0, 1) mix them
        braces += (char == "{") - (char == "}")
        if braces < 0 or depth > MAX_NESTING:
            return False
    return braces == 0


def boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{…}` (or `\fbox{…}`) of a text, or None."""
    start = max(text.rfind(r"\boxed{"), text.rfind(r"\fbox{"))
    if start < 0:
        return None
    start = text.index("{", start) + 1
    depth = 1
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[start:end]
    return None


# -- is there work left to do? ----------------------------------------------------------------
# sympy does whatever sum is put before it, and a policy soon learns to write the question down
# again: 12 + 30, or \int_0^1 x dx.  So an answer may leave no work that the gold answer does not
# leave too.  That is read off the two texts, each in one spelling, before sympy sees them.

_TEXT = r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathit|rm)\s*"
_GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"  # what stands in braces, perhaps with braces in it
SPELLINGS = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\(?:left|right|displaystyle|q?quad)(?![A-Za-z])|\\[,;:!$]|\\(?= )|~", " "),
        (_TEXT + r"\{([^A-Za-z{}]*)\}", r"\1"),
        # units at the end, with their power; no other digits, which could be a second guess
        (
            rf"(?:[\s/]*{_TEXT}\{{(?:[^{{}}\d\\]*|\s*base\s*\d+\s*)\}}(?:\^\{{?\d\}}?)?)+\s*$",
            "",
        ),
        (r"\^\\circ(?![A-Za-z])", "°"),
        (r"\\pi(?![A-Za-z])", "π"),
        (r"\\?sqrt\s*\(([^()]*)\)", r"√{\1}"),
        (r"\\sqrt(?![A-Za-z])", "√"),
        (r"\\exp(?![A-Za-z])", "e^"),
        (r"\*\*", "^"),
        (r"\\(?:cdot|times)(?![A-Za-z])|[*×⋅]", "·"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}", r"\\frac{\1}{\2}"),
        ("\u2212", "-"),
        (r"\\%", "%"),
        (r"\{,\}", ","),
        (r"(?<!\d)\s+|\s+(?!\d)", ""),  # but 6 7 is not 67
        (r"√((?:\[\d\])?)([\dπ])", r"√\1{\2}"),
        (r"\\frac([\dπi])", r"\\frac{\1}"),
        (rf"(\\frac{_GROUP})([\dπi])", r"\1{\2}"),
        # a fractional power is a root
        (r"(\d+)\^(?:\{|\(|\{\()\d/(\d)(?:\)\}|\)|\})", r"√[\2]{\1}"),
        (r"(\d+)\^\{\\frac\{\d\}\{(\d)\}\}", r"√[\2]{\1}"),
        (r"(?:^|(?<=[-+/·(=]))\{([^{}]*)\}", r"\1"),
    )
)
"""What is replaced, in this order, to have one spelling without spaces and units.  math-verify gets
the text itself."""

WORDS = re.compile(r"(?<=[\d.}%°)π])(?!i+$)[A-Za-z][A-Za-z.]*$")
"""A unit that is not marked as text (math-verify knows which letters are one)."""

_NUMBER = r"(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?(?:_\{?\d{1,2}\}?)?|\.\d+)"  # 1,234.5 or 41_7
_ROOT = rf"√(?:\[\d\])?\{{(?:{_NUMBER}|\\frac\{{\d+\}}\{{\d+\}}|\d+/\d+)\}}"
_SYMBOLS = rf"(?:π·?)?(?:i·?)?(?:{_ROOT})?(?:·?π)?(?:·?i)?"
_PRODUCT = rf"(?=[\d.πi√]){_SYMBOLS}(?:·?{_NUMBER}·?)?{_SYMBOLS}"  # with one number at most
_PART = rf"(?:{_PRODUCT}|\({_PRODUCT}\))"
_FRACTION = rf"(?:\\frac\{{-?{_PART}\}}\{{-?{_PART}\}}|{_PART}[/:]{_PART})"
_MIXED = r"\d+\\frac\{\d+\}\{\d+\}"
_VALUE = rf"(?:{_SYMBOLS}·?(?:{_FRACTION}|\({_FRACTION}\))·?{_SYMBOLS}|{_MIXED}|{_PRODUCT})"
VALUE = re.compile(rf"(?=[^-]*-?[^-]*$)[-+]?(?:{_VALUE}|\([-+]?{_VALUE}\))[%°]?")
r"""One number, fraction or mixed number, or such a multiple of a root, \pi or i; with one sign."""

CONSTANT = re.compile(r"(?:[\dπie·^/.+\-{}()]|√(?:\[\d\])?|,(?=\d{3}(?!\d))|\\frac)+")
"""What is made of such values: no variables, no functions, no lists."""

_PLUS = r"(?<=[\w.)}\]π°])[-+]"  # between two terms, not a sign
IN_ALL = tuple(
    re.compile(pattern)
    for pattern in (
        _PLUS,
        r"-\(?-",
        r"\^",
        r"[\d.]·[\d.\\]|\)·?\(",  # a product of two numbers, of two sums
        r"√(?:\[\d\])?\{(?:[^{}]|\{[^{}]*\})*?[-+]",  # the root of a sum
        rf"\\frac{_GROUP}\{{(?:[^{{}}]|\{{[^{{}}]*\}})*?{_PLUS}|/\([^()]*{_PLUS}",  # 1/(1+√2)
    )
)
"""Work that an answer has no more of than the gold answer has."""

IN_EACH_TERM = tuple(re.compile(pattern) for pattern in (r"\\frac|[/:]", "√", "π", "i", "e"))
"""What an answer has no more of in each term: (1+√5)/2 may be written 1/2 + √5/2."""

FAMILIES = tuple(
    frozenset(names.split())
    for names in (
        "int iint iiint oint",
        "sum prod",
        "lim limsup liminf",
        "derivative",
        "gcd lcm",
        "max min sup inf",
        "lfloor lceil floor ceil",
        "binom dbinom tbinom choose !",
        "mod bmod pmod",
        "det vmatrix",
        "log ln lg",
        "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc "
        "sinh cosh tanh arsinh arcosh artanh arcsinh arccosh arctanh",
    )
)
r"""Operators that an answer has only where the gold answer has one of the same family: \cot x may
be written \frac{\cos x}{\sin x}."""


def finished(gold: str, answer: str) -> bool:
    r"""Does `answer` leave no work to the judge that `gold` does not leave as well?

    To a gold answer that is one value (`VALUE`) the answer is one value too, with a root, \pi, i or
    a fraction only where the gold has one: neither \frac{84}{2} nor 42x/x is 42.  To a sum or power
    (3+2\sqrt{5}) the answer has no more sums, powers, roots, … than that.  To all else (variables,
    tuples, sets, …) it only has no operator of other FAMILIES and no more matrices: whether x^2-9
    or (x-3)(x+3) is the finished one depends on the question.
    """
    wanted = re.sub("^[A-Za-z]=", "", _spelling(gold))
    value = WORDS.sub("", _value(_spelling(answer)))
    if VALUE.fullmatch(wanted):
        return VALUE.fullmatch(value) is not None and _no_more_work(wanted, value)
    if CONSTANT.fullmatch(wanted) and "(" not in wanted:
        return CONSTANT.fullmatch(value) is not None and _no_more_work(wanted, value)
    if answer.count(r"\begin{") > max(1, gold.count(r"\begin{")):  # a sum or product of matrices
        return False
    has, may_have = _operators(answer), _operators(gold)
    return not any(family & has and not family & may_have for family in FAMILIES)


def _spelling(text: str) -> str:
    for pattern, new in SPELLINGS:
        text = pattern.sub(new, text)
    return text


def _value(text: str) -> str:
    r"""What stands right of `x =`, or in `\{…\}`.  Left of it there is a letter: nothing is named
    in 13 = 14, which are two guesses."""
    found = re.match(r"([^=]*?)(?:=|\\approx|\\in(?![A-Za-z]))(.*)", text)
    if found and re.search("[A-Za-z]", found[1].replace(r"\frac", "")):
        text = found[2]
    return re.sub(r"^\\\{([^{},]*)\\\}$", r"\1", text)


def _no_more_work(gold: str, answer: str) -> bool:
    """Compares what is counted in IN_ALL and IN_EACH_TERM; for texts without names in them."""

    def count(patterns: tuple[re.Pattern, ...], text: str) -> list[int]:
        return [len(pattern.findall(text)) for pattern in patterns]

    in_all, in_terms = count(IN_ALL, gold), count(IN_EACH_TERM, gold)
    in_terms[0] += len(re.findall(r"\.\d|%|\^\{?-", gold))  # 0.5, 50 % and e^{-2} are fractions
    limits = in_all + [number * (1 + in_all[0]) for number in in_terms]
    found = count(IN_ALL + IN_EACH_TERM, answer)
    return all(number <= limit for number, limit in zip(found, limits, strict=True))


def _operators(text: str) -> set[str]:
    r"""The names of all commands; \operatorname{lcm} is lcm, \begin{vmatrix} is vmatrix."""
    text = text.replace(r"\!", " ")
    text = re.sub(r"\\operatorname\s*\*?\s*\{\s*([A-Za-z]+)\s*\}", r"\\\1 ", text)
    found = {name or mark for name, mark in re.findall(r"\\(?:begin\{)?([A-Za-z]+)|(!)", text)}
    if re.search(r"frac\s*\{\s*(?:d|\\partial)\W*\w?\W*\}\s*\{\s*(?:d|\\partial)", text):
        found.add("derivative")
    return found


# -- asking the worker ------------------------------------------------------------------------

_lock = threading.Lock()
_worker: subprocess.Popen | None = None
_owner = 0  # the process that started it: after a fork the child starts its own


@lru_cache(maxsize=50_000)
def _ask(gold: str, answer: str) -> bool:
    with _lock:
        worker = _running()
        try:
            worker.stdin.write(json.dumps([gold, answer]) + "\n")
            worker.stdin.flush()
            verdict = _line(worker, WALL_SECONDS)
        except OSError:  # it died between two questions
            verdict = ""
        if verdict not in ("0", "1"):
            _stop()
            _start()  # imports sympy while we do something else
        return verdict == "1"


def _running() -> subprocess.Popen:
    """The worker, started and ready."""
    if _worker is None or _owner != os.getpid() or _worker.poll() is not None:
        _start()
    if not getattr(_worker, "ready", False):
        said = _line(_worker, START_SECONDS)
        if said != "ready":
            _stop()
            raise R1LabError(
                "answers of this task are judged with math-verify, and its process does not start "
                f"({said or 'it ended'}): pip install math-verify==0.9.0"
            )
        _worker.ready = True
    return _worker


def _start() -> None:
    global _worker, _owner
    paths = [path or os.getcwd() for path in sys.path]
    _worker = subprocess.Popen(
        [sys.executable, "-c", "from r1lab.tasks.math_equal import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"},
        start_new_session=True,  # a stop signal for us, which lets a step finish, must not end it
    )
    _owner = os.getpid()


@atexit.register
def _stop() -> None:
    global _worker
    worker, _worker = _worker, None
    if worker is not None and _owner == os.getpid():
        worker.kill()
        worker.communicate()


def _line(worker: subprocess.Popen, seconds: float) -> str:
    """The worker's next line; "" if it ends, or has not answered in time and is killed."""
    alarm = threading.Timer(seconds, worker.kill)
    alarm.daemon = True
    alarm.start()
    try:
        return worker.stdout.readline().strip()
    finally:
        alarm.cancel()


# -- in the worker ----------------------------------------------------------------------------


class _Enough(BaseException):
    """Not an Exception: sympy catches those."""


def serve() -> None:
    """The worker: a line of JSON [gold, answer] in, a line "1" or "0" out, until the pipe ends."""
    say = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints, it is no verdict
    try:
        import math_verify  # noqa: F401

        compare(
            "x^2+2x+1", "(x+1)^2"
        )  # loads grammar, regular expressions and what sympy loads late
    except BaseException as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0], file=say, flush=True)
        return
    limit = _limits()
    print("ready", file=say, flush=True)
    for line in sys.stdin:
        try:
            limit(CPU_SECONDS)
            verdict = compare(*json.loads(line))
        except (_Enough, Exception):
            verdict = False
        finally:
            limit(0)
        print("1" if verdict else "0", file=say, flush=True)


def _limits():
    """Set the process's limits; returns the function that sets a comparison's (0: none)."""
    try:
        import resource
        import signal
    except ImportError:  # Windows: the parent's clock has to do
        return lambda seconds: None

    for kind, most in ((resource.RLIMIT_AS, 4 << 30), (resource.RLIMIT_FSIZE, 0)):
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS knows no RLIMIT_AS
            pass

    def enough(signum, frame):
        raise _Enough

    signal.signal(signal.SIGVTALRM, enough)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, in the middle of anything

    def limit(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        signal.setitimer(signal.ITIMER_PROF, 1.5 * seconds)

    return limit


def compare(gold: str, answer: str) -> bool:
    """math-verify's verdict, with nothing to stop it: only for the worker.

    Both are read as LaTeX alone: math-verify's reader for plain expressions picks one number out of
    many ("I think 41, no: 42") and hands text to sympy's parse_expr, which evaluates it.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    def read(text: str) -> list:
        return parse(
            f"${text}$",
            extraction_config=[LatexExtractionConfig(boxed_match_priority=-1)],
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,
        )

    return bool(verify(read(gold), read(answer), timeout_seconds=None))
