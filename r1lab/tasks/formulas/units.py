r"""Units of values: 15\text{square}\text{cm} is 15 of 1/10000 square meters, \$5\text{million} is
5, a million times, of dollars; 12\text{apples} is 12 of a unit that is not in the table."""

import re
from fractions import Fraction

_TABLE = """m meter metre = 1 m | mm millimeter millimetre = 1/1000 m | dm decimeter = 1/10 m
cm centimeter centimetre = 1/100 m | km kilometer kilometre = 1000 m | in inch = 254/10000 m
ft foot feet = 3048/10000 m | yd yard = 9144/10000 m | mi mile = 1609344/1000 m
g gram = 1 g | mg milligram = 1/1000 g | kg kilogram = 1000 g | oz ounce = 1/16 lb | lb pound = 1 lb
ton tonne = 1 ton | s sec second = 1 s | min minute = 60 s | h hr hour = 3600 s | day = 86400 s
week = 604800 s | month = 1 month | year yr = 12 month | decade = 120 month | l liter litre = 1 l
ml milliliter = 1/1000 l | gal gallon = 1 gal | qt quart = 1/4 gal | pt pint = 1/8 gal
dollar buck usd = 1 dollar | cent penny pennie = 1/100 dollar | euro = 1 euro
degree deg = 1 degree | radian rad = 1 radian"""
_NUMBERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12}
_NUMBERS |= {"trillion": 10**12, "hundreds": 100, "thousands": 1000, "millions": 10**6}
_NUMBERS |= {"dozens": 12, "billions": 10**9}
_NO_UNIT = frozenset(
    "not no or and nor but none never half halves third thirds fourth fourths fifth fifths sixth "
    "sixths eighth eighths tenth tenths hundredth hundredths thousandth thousandths minus plus "
    "times point over base mod wait versus less more than else except factorial am pm about maybe "
    "negative if is are was be without score scores gross twice thrice root doubled halved tripled "
    "fewer inverse reciprocal approximately approx roughly nearly almost perhaps possibly probably "
    "unless instead actually wrong incorrect false unknown impossible cannot excluded guess".split()
)
"""Words that change the number before them, or cast doubt on it."""
_NUMERAL = re.compile(
    "(?:seven|nin|eleven|twelf|[a-z]+teen|[a-z]+tie|[a-z]+illion)ths?"  # 5 ninths
    "|(?!million|billion|trillion)[a-z]+illions?|googol|tens|zero|one|two|three|four|five|six"
    "|seven|eight|nine|ten|eleven|twelve|[a-z]+teen|twenty|thirty|forty|fifty|sixty|[a-z]+[hn]ty"
)
"""The same: more numbers in words."""
_GLUED = frozenset("cm mm km kg ft in lb mph min ml".split())


def _stem(word: str) -> str:
    """One form for singular and plural, not always a word: minute and minutes are minut."""
    return word.rstrip("s").rstrip("e") if len(word) > 3 else word


UNITS: dict[str, tuple[Fraction, dict[str, int]]] = {}
for _names, _factor, _base in re.findall(r"([a-z ]+)= (\S+) (\w+)", _TABLE):
    for _name in _names.split():
        UNITS[_stem(_name)] = (Fraction(_factor), {_base: 1})
UNITS["mph"] = (Fraction(1609344, 3600000), {"m": 1, "s": -1})
UNITS["kmph"] = UNITS["kph"] = (Fraction(1000, 3600), {"m": 1, "s": -1})
UNITS |= {f"{name}s": UNITS[_stem(name)] for name in ("lb", "sec", "min", "hr", "yr")}


def is_unit(run: str, spaced: bool) -> bool:
    """Are these letters after a number a unit?  Without a space they might be variables."""
    known = run in UNITS if len(run) < 3 else _stem(run.lower()) in UNITS
    return (known or run in ("L", "sq")) and (spaced or run in _GLUED or len(run) > 3)


_TAIL = re.compile(r"(?:(?:/|\\cdot)?\\text\{[^{}]*\}(?:\^\{?-?\d\}?)?\.?)+$")
_TERM = re.compile(r"(/?)(?:\\cdot)?\\text\{([^{}]*)\}(?:\^\{?(-?\d)\}?)?")
_TRIG = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)")
_POWER_WORDS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}

Unit = tuple[Fraction, frozenset]  # cm is (1/100, {("m", 1)}), unknown units are (1, words)


def split_unit(text: str) -> tuple[str, int, Unit | str | None]:
    r"""(value, multiple, unit) of a spelled value: ("5", 10**6, (1, {("dollar", 1)})) of
    \$5\text{million}; the unit is "%" for percent, None (and the text whole) without one."""
    nothing = (text, 1, None)
    money = re.match(r"(?:[-+]?\$|\$[-+])(?=[\d.\\(])", text) is not None or text.endswith("$")
    if money:
        text = text.replace("$", "", 1)
    tail = _TAIL.search(text)
    terms = _TERM.findall(tail[0]) if tail else []
    value = text[: tail.start()] if tail else text
    doubt = (
        len(terms) > 6
        or (terms and terms[0][1] in ("squared", "cubed"))
        or any(word in _NO_UNIT or _NUMERAL.fullmatch(word) for _, word, _ in terms)
    )
    if doubt or re.search(r"^$|\\text|\$|^\\(?:angle|triangle)$", value):
        return nothing
    multiple = 1
    while terms and terms[0][1] in _NUMBERS:
        multiple *= _NUMBERS[terms.pop(0)[1]]
    unit = _measure(terms)
    if value.endswith("%"):
        value, unit = value[:-1], "%" if unit is None else (unit[0], unit[1] | {"%"})
    elif value.endswith(r"^\circ") and not _TRIG.search(value):
        value, unit = value[:-6], unit or (Fraction(1), frozenset({("degree", 1)}))
    if money and unit != "%":
        scale, bases = unit or (Fraction(1), frozenset())
        unit = (scale, bases | {("dollar", 1)})
    return (value, multiple, unit) if value else nothing


def _measure(terms: list[tuple[str, str, str]]) -> Unit | None:
    """The unit of terms (slash, word, power); None for no terms, and for "units"."""
    scale, bases, sign, power, words = Fraction(1), {}, 1, 1, set()
    for slash, word, raised in terms:
        if slash or word in ("per", "a", "an", "each", "every"):
            sign = -1
        unit = UNITS.get(word if len(word) < 3 else _stem(word))
        if word in _POWER_WORDS:
            power = _POWER_WORDS[word]
            if word.endswith("ed") and len(bases) == 1:  # meters squared
                scale, bases, power = scale**power, dict.fromkeys(bases, power), 1
        elif unit is not None:
            exponent = sign * int(raised or power)
            scale *= unit[0] ** exponent
            for base, one in unit[1].items():
                bases[base] = bases.get(base, 0) + one * exponent
            power = 1
        elif word not in ("per", "a", "an", "each", "every", "unit", "units", "of", "the", "in"):
            words.add(_stem(word))
    if words:
        return Fraction(1), frozenset(words | set(bases))
    return (scale, frozenset(bases.items())) if bases else None


def factors(gold: Unit | str | None, answer: Unit | str | None) -> tuple[Fraction, ...]:
    """The allowed factors from an answer's value to the gold answer's; () for unrelated units.

    A unit may be missing or added; % is a hundredth where gold is not in percent, and optional
    where it is.  Unknown units are one if the words of one are all in the other."""
    if gold == "%":
        return {None: (Fraction(1), Fraction(100)), "%": (Fraction(1),)}.get(answer, ())
    if answer == "%":
        return (Fraction(1, 100),) if gold is None else ()
    if gold is None or answer is None:
        return (Fraction(1),)
    if gold[1] == answer[1]:
        return (answer[0] / gold[0],)
    in_words = all(isinstance(base, str) for base in gold[1] | answer[1])
    return (Fraction(1),) if in_words and (gold[1] <= answer[1] or answer[1] <= gold[1]) else ()
