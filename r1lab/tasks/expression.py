"""Expressions in whole numbers, parsed and computed exactly, never executed. (Published Countdown
rewards call `eval` behind a regular expression that accepts `95**78**6`.)
"""

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

MAX_ANSWER_CHARS = 1000  # bounds the work; a correct answer has about 20
COMPUTE = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def tokenize(text: str) -> list[int | str] | None:
    """ASCII numbers without leading zeros, operators and parentheses; None if anything else is in
    the text. `**`, `//` and `0x10` become tokens that the parser refuses."""
    if not isinstance(text, str) or len(text) > MAX_ANSWER_CHARS:
        return None
    pieces = re.findall("[0-9]+|[^ \t\r\n]", text)
    if not all(re.fullmatch(r"[-+*/()]|0|[1-9][0-9]*", piece) for piece in pieces):
        return None
    return [int(piece) if piece.isdigit() else piece for piece in pieces]


def to_postfix(text: str) -> list[int | str] | None:
    """An infix expression as a postfix list, "( 10 + 7 ) * 6" -> [10, 7, "+", 6, "*"], or None."""
    return postfix_of(tokenize(text) or (), {"+": 1, "-": 1, "*": 2, "/": 2})


def postfix_of(
    tokens: Iterable[Any], precedence: Mapping[Any, int], prefix: Sequence[str] = ()
) -> list[Any] | None:
    """Infix tokens in postfix order, or None where they are no expression.

    precedence: of the operators, from 0; of one precedence the left one comes first. prefix: those
    of them that stand before one operand. Whatever is no operator and no parenthesis is an operand.
    Dijkstra's shunting yard: no recursion, so any nesting is fine."""
    postfix: list[Any] = []
    waiting: list[Any] = []  # operators and "(" whose right-hand side is not complete yet
    operand_next = True
    for token in tokens:
        binary = token in precedence and token not in prefix
        if operand_next == (binary or token == ")"):
            return None
        if token == "(" or token in prefix:
            waiting.append(token)
        elif token == ")":
            while waiting and waiting[-1] != "(":
                postfix.append(waiting.pop())
            if not waiting:
                return None
            waiting.pop()
        elif binary:
            while waiting and precedence.get(waiting[-1], -1) >= precedence[token]:
                postfix.append(waiting.pop())
            waiting.append(token)
            operand_next = True
        else:
            postfix.append(token)
            operand_next = False
    return None if operand_next or "(" in waiting else postfix + waiting[::-1]


def evaluate(postfix: Sequence[int | str]) -> Fraction | None:
    """The exact value of a postfix expression; None for a division by zero."""
    stack: list[Fraction] = []
    for item in postfix:
        if isinstance(item, int):
            stack.append(Fraction(item))
            continue
        right, left = stack.pop(), stack.pop()
        if item == "/" and right == 0:
            return None
        stack.append(COMPUTE[item](left, right))
    return stack[0]


Node = tuple[str, list[str], list[str]]  # (kind, added, subtracted), or with factors and divisors


def canonical(postfix: Sequence[int | str]) -> str:
    """One text for all orders and groupings of sums and products: `6 + ( 10 + 7 )` and `7 + 6 + 10`
    are "(+6+7+10)", `10 - 6 + 7` and `10 + 7 - 6` are "(+7+10-6)"."""
    stack: list[Node] = []
    for item in postfix:
        if isinstance(item, int):
            stack.append(("number", [str(item)], []))
            continue
        right, left = stack.pop(), stack.pop()
        kind = "sum" if item in "+-" else "product"
        up, down = _operands(left, kind)
        other_up, other_down = _operands(right, kind)
        if item in "-/":
            other_up, other_down = other_down, other_up
        stack.append((kind, up + other_up, down + other_down))
    return _text(stack[0])


def _operands(node: Node, kind: str) -> tuple[list[str], list[str]]:
    return (node[1], node[2]) if node[0] == kind else ([_text(node)], [])


def _text(node: Node) -> str:
    kind, up, down = node
    if kind == "number":
        return up[0]
    signs = "+-" if kind == "sum" else "*/"
    parts = [
        sign + operand
        for sign, operands in zip(signs, (up, down), strict=True)
        for operand in sorted(operands, key=lambda operand: (len(operand), operand))
    ]
    return "(" + "".join(parts) + ")"
