"""What the worker of `math_equal` calls, with nothing to stop it."""

from __future__ import annotations

from r1lab.tasks.formulas.compare import compare
from r1lab.tasks.formulas.votes import key


def answer(what: str, *texts: str) -> bool | str:
    """("equal", gold, answer): are they?  ("key", answer): its key, equal for equal answers."""
    return key(*texts) if what == "key" else compare(*texts)


def warm_up() -> None:
    """Loads the grammar, and what sympy loads late: the first time takes ten times as long."""
    for gold, answer in _WARM:
        compare(gold, answer)


_WARM = (
    (r"x_1^2+2x_1+1", "(x_1+1)^2"),
    ("x<3", r"(-\infty,3)"),
    (r"\frac{2}{\sqrt{2}}", r"\sqrt 2"),
    (r"e^{-20}", r"e^{-21}"),
    (r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}"),
    (r"\log_2 3", r"\frac{\log 3}{\log 2}"),
    (r"\cos 20^\circ", r"\cos(20^\circ)"),
    ("f(x)", "f(x)+1"),
    (r"2+3i", r"3 i + 2"),
    (r"\frac{x^2}{4}+\frac{y^2}{9}=1", "9x^2+4y^2=36"),
    (r"3\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}3\\6\end{pmatrix}"),
)
