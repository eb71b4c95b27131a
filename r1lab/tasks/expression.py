"""Reading arithmetic: an expression in whole numbers, computed exactly and never executed.

What a model writes is data. (Published Countdown rewards call `eval` behind a regular expression
that lets `95**78**6` through, and wait for all of its digits.)
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from fractions import Fraction

MAX_ANSWER_CHARS = 1000  # a longer answer is wrong (a right one needs some 20), so work is bounded
COMPUTE = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def tokenize(text: str) -> list[int | str] | None:
    """Numbers, operators and parentheses of an answer, or None if anything else is in it.

    Only the ASCII digits count: str.isdigit() would let "٣" and "³" through.  No signs, no points,
    no leading zeros; `**`, `//` and `0x10` fall apart into tokens that the parser refuses.
    """
    if not isinstance(text, str) or len(text) > MAX_ANSWER_CHARS:
        return None
    tokens: list[int | str] = []
    for piece in re.findall("[0-9]+|[^ \t\r\n]", text):
        if piece in "+-*/()":
            tokens.append(piece)
        elif re.fullmatch("0|[1-9][0-9]*", piece):
            tokens.append(int(piece))
        else:
            return None
    return tokens


def to_postfix(text: str) -> list[int | str] | None:
    """An infix expression as a postfix list, "( 10 + 7 ) * 6" -> [10, 7, "+", 6, "*"], or None.

    Dijkstra's shunting yard: one pass and one stack of operators, no recursion, so that no nesting
    is too deep for it.
    """
    precedence = {"+": 1, "-": 1, "*": 2, "/": 2}
    postfix: list[int | str] = []
    waiting: list[str] = []  # operators and "(" whose right-hand side is not complete yet
    operand_next = True
    for token in tokenize(text) or ():
        starts_operand = isinstance(token, int) or token == "("
        if starts_operand != operand_next:
            return None
        if isinstance(token, int):
            postfix.append(token)
            operand_next = False
        elif token == "(":
            waiting.append(token)
        elif token == ")":
            while waiting and waiting[-1] != "(":
                postfix.append(waiting.pop())
            if not waiting:
                return None
            waiting.pop()
        else:
            while waiting and precedence.get(waiting[-1], 0) >= precedence[token]:
                postfix.append(waiting.pop())
            waiting.append(token)
            operand_next = True
    if operand_next or "(" in waiting:
        return None
    return postfix + waiting[::-1]


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


def canonical(postfix: Sequence[int | str]) -> str:
    """One text for all expressions that differ only by order and grouping within sums and products.

    A sum is its sorted added terms, then its sorted subtracted ones; a product likewise with
    divisors: `6 + ( 10 + 7 )`, `7 + 6 + 10` -> "(+6+7+10)"; `10 - 6 + 7`, `10 + 7 - 6` are one too.
    """
    stack: list[tuple[str, list[str], list[str]]] = []  # (kind, plus or times, minus or over)
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


def _operands(node: tuple[str, list[str], list[str]], kind: str) -> tuple[list[str], list[str]]:
    """The node's own operands if it is of this kind, else the node as the single operand."""
    return (node[1], node[2]) if node[0] == kind else ([_text(node)], [])


def _text(node: tuple[str, list[str], list[str]]) -> str:
    kind, up, down = node
    if kind == "number":
        return up[0]
    signs = "+-" if kind == "sum" else "*/"
    order = {"key": lambda operand: (len(operand), operand)}
    parts = [signs[0] + operand for operand in sorted(up, **order)]
    parts += [signs[1] + operand for operand in sorted(down, **order)]
    return "(" + "".join(parts) + ")"
