"""No public function or method of the package has more than eight parameters."""

from __future__ import annotations

import ast

import pytest

import r1lab

MOST = 8


def too_wide(source: str) -> list[str]:
    """Names of the public functions, and methods of public classes, with more parameters than
    MOST, self or cls excluded. Functions inside functions are private; *args and **kwargs count."""
    found = []

    def visit(body: list[ast.stmt], owner: str = "") -> None:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                visit(node.body, f"{owner}{node.name}.")
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            a, static = (
                node.args,
                any(ast.unparse(d) == "staticmethod" for d in node.decorator_list),
            )
            names = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
            count = len(names) - bool(owner and not static)
            private = node.name.startswith("_") and node.name != "__init__"
            if count > MOST and not private:
                found.append(f"{owner}{node.name}")

    visit(ast.parse(source).body)
    return found


def test_no_public_function_takes_more_than_eight_parameters():
    files = sorted(r1lab.PACKAGE.rglob("*.py"))
    found = {str(path): names for path in files if (names := too_wide(path.read_text("utf-8")))}
    assert len(files) > 50 and not found


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(a, b, c, d, e, f, g, h): ...", []),
        ("def f(a, b, c, d, /, e, f, g, *, h, i=0): ...", ["f"]),
        ("async def f(a, b, c, d, e, f, g, *h, **i): ...", ["f"]),
        ("def _f(a, b, c, d, e, f, g, h, i): ...", []),
        ("class A:\n def f(self, a, b, c, d, e, f, g, h): ...", []),
        ("class A:\n def __init__(self, a, b, c, d, e, f, g, h, i): ...", ["A.__init__"]),
        ("class A:\n @staticmethod\n def f(a, b, c, d, e, f, g, h, i): ...", ["A.f"]),
    ],
)
def test_what_counts(source, names):
    assert too_wide(source) == names
