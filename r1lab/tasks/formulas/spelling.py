r"""One spelling for mathematical answers in plain text, unicode and LaTeX.

    2√3, 2*sqrt(3), 2\sqrt 3      2\sqrt{3}
    ½, 1/2 of \frac 1 2           \frac{1}{2}
    June 20, \text{June 20}       \text{june}20
    15 square cm                  15\text{square}\text{cm}

Words become \text, one by one in lower case; letters that are no word stay variables.
"""

import re
import unicodedata

from r1lab.tasks.formulas.units import UNITS, is_unit

SIGNS = {
    "√": r"\sqrt ", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]", "∞": r"\infty ", "≤": r"\le ",
    "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ",
    "∓": r"\mp ", "×": r"\cdot ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "∗": r"\cdot ",
    "÷": "/", "∕": "/", "⁄": "/", "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "‒": "-",
    "°": r"^\circ ", "º": r"^\circ ", "˚": r"^\circ ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}",
    "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "ℕ": r"\mathbb{N}", "…": r"\ldots ", "∠": r"\angle ",
    "¢": " cents", "′": "'", "’": "'", "∣": "|",
    "⟨": r"\langle ", "⟩": r"\rangle ", "∖": r"\setminus ", "∼": r"\sim ", "µ": r"\mu ",
}  # fmt: skip
POWERS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_INDICES = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")


def ascii_of(text: str) -> str:
    """LaTeX in place of signs, Greek letters, raised digits and vulgar fractions."""
    if text.isascii():
        return text

    def plain(found: re.Match) -> str:
        return unicodedata.normalize("NFKC", found[0]).replace("−", "-")

    text = re.sub(r"([√∛∜])\s*(\d+)", r"\1{\2}", text)
    text = re.sub(r"([€£¥₹])\s*([-+]?\s*[\d.,]*\d)|(?<=\d)\s*([€£¥₹])", _money, text)
    text = POWERS.sub(lambda found: f"^{{{plain(found)}}}", text)
    text = _INDICES.sub(lambda found: f"_{{{plain(found)}}}", text)
    return "".join(SIGNS.get(char) or _latex(char) for char in text)


def _latex(char: str) -> str:
    whole = unicodedata.normalize("NFKC", char)
    if "⁄" in whole:  # ½
        return "\\frac{" + whole.replace("⁄", "}{") + "}"
    greek = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (\w+)", unicodedata.name(char, ""))
    if greek:
        letter = greek[2].lower().replace("lamda", "lambda")
        return f"\\{letter if greek[1] == 'SMALL' else letter.capitalize()} "
    return SIGNS.get(whole, whole)


def _money(found: re.Match) -> str:
    """The currency in words behind the number."""
    words = {"€": "euros", "£": "pounds sterling", "¥": "yen", "₹": "rupees"}
    return f"{found[2] or ''} {words[found[1] or found[3]]}"


def rules(*pairs: tuple) -> list[tuple]:
    return [(re.compile(pattern), new) for pattern, new in pairs]


def replaced(text: str, substitutions: list[tuple]) -> str:
    for pattern, new in substitutions:
        text = pattern.sub(new, text)
    return text


ROWS = "¶"  # \\ between the rows of a matrix
THOUSANDS = "`"  # the comma of 1,234
_PLAIN = dict(div="/", lt="<", gt=">", colon=":", mid="|", lbrace=r"\{", rbrace=r"\}")
_NOISE = rules(
    (r"\\\\(?:\[[^\]]*\])?", ROWS),
    (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits)(?![A-Za-z])", ""),
    (r"(?<=\.)(\d+),\s*\\!\s*(?=\d)", r"\1"),
    (r"(?<=\d),\s*\\!\s*(?=\d{3}(?!\d))|(?<=\d)\{,\}(?=\d{3}(?!\d))", ","),
    (r"(?<=\d)\\[,:;!]\s*(?=\d{3}(?!\d))", ","),
    (r"(?<!\\)sqrt\s*(\d+)", r"\\sqrt{\1}"),
    (r"(?<=[A-Za-z])\s+in\s+(?=[\[(])", r"\\in "),
    (r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,\d)", lambda m: _thousands(m)),
    (r"\\!", ""),
    (r"\\boldsymbol(?![A-Za-z])", r"\\bm"),
    (r"\\[,:; ]|\\q?quad(?![A-Za-z])|~", " "),
    (r"\\([$%])", r"\1"),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}", r"\\frac{\1}{\2}"),
    (r"\*\*", "^"),
    (r"\\(?:cdot|times|ast)(?![A-Za-z])|\*", r"\\cdot "),
    (r"\\(?:leq|leqslant|le)(?![A-Za-z])|<=|=<", r"\\le "),
    (r"\\(?:geq|geqslant|ge)(?![A-Za-z])|>=", r"\\ge "),
    (r"\\(?:neq|ne)(?![A-Za-z])|!=|\\not\s*=", r"\\ne "),
    (r"\\(div|lt|gt|colon|mid|lbrace|rbrace)(?![A-Za-z])", lambda m: _PLAIN[m[1]]),
    (r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset "),
    (r"\\(?:dots|cdots|dotsc)(?![A-Za-z])|\.\.\.", r"\\ldots "),
    (r"(?:\{\})?\s*\^\s*\{?\s*\\(?:circ|degree)(?![A-Za-z])\s*\}?", r"^\\circ "),
    (r"\\degree(?![A-Za-z])", r"^\\circ "),
    (r"\^\\circ\s*([CF])(?![A-Za-z])", r"\\text{degrees \1}"),
    (r"\+/-", r"\\pm "),
    (r"(?<![\w.}/^])(\d+)/(\d+)\s+(?=[a-z])", r"\\frac{\1}{\2} "),
    (r"\\(?:operatorname\*?|math(?:rm|it|sf|bf)|rm|bm)\s*\{\s*([A-Za-z])\s*\}", r"\1 "),
    (r"\\(?:mathrm|mathit|mathbf|operatorname\*?|mathsf|bf|rm|it|bold|bm)(?![A-Za-z])", r"\\text"),
    (r"\\(?:text[a-z]+|mbox|hbox)(?![A-Za-z])", r"\\text"),
    (r"\{\s*\\text\s([^{}]*)\}", r"\\text{\1}"),
    (r"(\d*)\.(\d*)\\(?:overline|bar)\s*\{(\d+)\}", lambda m: _repeating(*m.groups())),
    (r"(?<![A-Za-z\d}])((?:\d+\.?\d*|\.\d+))[eE]([+-]?\d{1,4})(?![\w.])", r"\1\\cdot 10^{\2}"),
    (r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r"\\cdot "),
    (r"\^\s*(-?(?:\d*\.)?\d+)", r"^{\1}"),
    (r"(?<=\\log)_\s*(\d)", r"_{\1}"),
    (r"\((\d[\dA-F]*)\)(?=\s*_)|_\s*(\d+)", lambda m: m[1] or f"_{{{m[2]}}}"),
    (r"(?<=\d)(?:st|nd|rd|th)\b", ""),
)


def _thousands(found: re.Match) -> str:
    """1,234 as one number, but not in (1,234), {1,234} or [1,234]."""
    before, after = found.string[: found.start()].rstrip("+-"), found.string[found.end() :]
    alone = before[-1:] in ("(", "[", "{") and after.lstrip("\\")[:1] in (")", "]", "}")
    alone = alone and not re.search(r"(?:\\[a-z]*|[\w}_^])\{$", before.replace("\\{", "("))
    return found[0] if alone else found[0].replace(",", THOUSANDS)


def _repeating(whole: str, head: str, tail: str) -> str:
    bottom = (10 ** len(tail) - 1) * 10 ** len(head)
    top = int(whole + head + tail or 0) - int(whole + head or 0)
    return rf"\frac{{{top}}}{{{bottom}}}"


def _word(word: str) -> str:
    return rf"\text{{{word.lower()}}}"


_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt gcd lcm max "
    "min det pi alpha beta gamma delta epsilon theta lambda mu phi psi rho sigma tau omega "
    "infty".split()
)
_RENAMED = {"infinity": "infty", "inf": "infty", "oo": "infty", "asin": "arcsin", "acos": "arccos"}
_RENAMED |= {"atan": "arctan", "lamda": "lambda"}
_SHORT = frozenset("or no if is to of by at as so an and not".split())

_PIECES = re.compile(
    r"(\\(?:begin|end)\s*\{[^{}]*\}(?:\{[clr|]*\})?|\\math(?:bb|cal|frak)\s*\{[^{}]*\}"
    r"|\\text\s*\{[^{}]*\}|\\[A-Za-z]+|\\.)"
    r"|(?:(?<=:\d\d)\s*|(?<=\d)\s+)([AaPp])\.?\s?[Mm]\b\.?|([A-Za-z]+)"
)
_AFTER_VALUE = re.compile(r"[\d})%$]\s*$|[\d})]\s+[A-Za-z]+/\s*$")
_AFTER_OPERATOR = re.compile(r"(?:[-+^_<>|]|\\cdot)\s*$")
_BEFORE_OPERATOR = re.compile(r"\s*(?:[-+^_]|\\cdot)")


def _with_words_marked(text: str) -> str:
    r"""Every word as \text{word}; functions and constants as commands; other letters stay."""

    def piece(found: re.Match) -> str:
        command, clock, run = found.groups()
        if command and command.startswith(r"\text") and "{" in command:
            inside = command[command.index("{") + 1 : -1]
            before = _AFTER_VALUE.search(text[: found.start()])
            if inside.strip() in _FUNCTIONS and not (before and inside.strip() in UNITS):
                return f"\\{inside.strip()} "
            inside = re.sub(r"\b([AaPp])\.\s?[Mm]\b\.?", r"\1m", inside)
            return re.sub("[A-Za-z]+", lambda word: _word(word[0]), inside)
        if command:
            return command
        if clock:
            return _word(clock + "m")
        before, after = text[: found.start()], text[found.end() :]
        spaced = not before or before[-1] in " ,;:./([}"
        if _behind_value(before) and is_unit(run, spaced and before[-1] != "}"):
            if not re.match(r"\s*[-+(=]", after):
                return _word(run)
        name = _RENAMED.get(run, run)
        if name in _FUNCTIONS:
            return f"\\{name} "
        operand = _AFTER_OPERATOR.search(before) or _BEFORE_OPERATOR.match(after)
        word = len(run) > 2 or run.lower() in _SHORT or (len(run) == 2 and run.isupper())
        return _word(run) if word and spaced and not operand else run

    return _PIECES.sub(piece, text)


def _behind_value(before: str) -> bool:
    """Does a text without variables end in a number, or a number, one unit and a slash?"""
    if re.search(r"\d\s*(?:square|sq\.?|cubic|cu\.?)\s*$", before):
        return True
    name = r"^\s*[A-Za-z]\s*=|"
    plain = re.sub(name + r"\\text\s*\{[^{}]*\}|\\[A-Za-z]+|(?<=\s)[A-Za-z]+/\s*$", "", before)
    known = _AFTER_VALUE.search(before) and not re.search("[A-Za-z]", plain)
    return bool(known) and before.count("{") == before.count("}")


_LAST = rules(
    (r"\\text\{(?:percent|percentage|pct)\}|\\text\{per\}\s*\\text\{cent\}", "%"),
    (r"\\text\{all\}\s*\\text\{reals?\}(?:\s*\\text\{numbers?\})?", r"\\mathbb{R}"),
    (r"(?<![\d./])(\d+) (\d+)/(\d+)(?![\d./])", r"\1\\frac{\2}{\3}"),
    (r"\s+", lambda m: _space(m.string[: m.start()], m.string[m.end() :])),
    (r"\\frac(\d)\s*([\da-z])", r"\\frac{\1}{\2}"),
    (r"\\frac(\d)\s*\{", r"\\frac{\1}{"),
    (r"(\\frac\{(?:[^{}]|\{[^{}]*\})*\})(\d|\\pi(?![A-Za-z]))", r"\1{\2}"),
    (r"\\sqrt((?:\[\d\])?)\s*([\dA-Za-z]|\\pi(?![A-Za-z]))", r"\\sqrt\1{\2}"),
    (r"(?<![\d.}])\.(?=\d)", "0."),
    (r"^=", ""),
    # From left to right: 1/2x is x/2, as 1/2*x is, and not 1/(2x). dy/dx and f(x)/g(x) stay.
    (
        r"(/(?:\d+(?:\.\d+)?|\\(?:pi|sqrt\{[^{}]*\})|(?!d[a-z]|[fgh]\()[A-Za-z])(?:\^\{[^{}]*\})?)"
        r"(?=[A-Za-z(]|\\(?:pi|sqrt|frac|sin|cos|tan|log|ln|exp|alpha|beta|theta)(?![a-z]))",
        r"\1\\cdot ",
    ),
)


def _space(before: str, after: str) -> str:
    """A space stays only between two numbers, or a command and a letter."""
    numbers = re.search(r"[\d.]$", before) and re.match(r"\.?\d", after)
    command = after[:1].isalpha() and re.search(r"\\[A-Za-z]+$", before)
    return " " if numbers or command else ""


_OPENED = re.compile(r"(?:\\sqrt(?:\[\d\])?|\^)(?=\()")


def _braced(text: str) -> str:
    r"""\sqrt(…) and ^(…), with whatever brackets within, as \sqrt{…} and ^{…}."""
    found = _OPENED.search(text)
    while found:
        depth, opening = 0, found.end()
        for end in range(opening, len(text)):
            depth += (text[end] == "(") - (text[end] == ")")
            if depth == 0:
                text = f"{text[:opening]}{{{text[opening + 1 : end]}}}{text[end + 1 :]}"
                break
        found = _OPENED.search(text, opening)
    return text


def spell(text: str) -> str:
    """The text in the one spelling. Never raises."""
    text = ascii_of(text)
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)  # \\frac, as JSON writes it
    text = _with_words_marked(replaced(text, _NOISE)).strip()
    return _braced(replaced(text, _LAST)).strip()
