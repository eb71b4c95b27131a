"""Verifiers of the games of reasoning-gym: by the rules, not by comparison with one solution."""

import re
from collections import Counter
from collections.abc import Sequence

from r1lab.tasks import expression
from r1lab.tasks.gym.reading import Checker, grid, puzzle

Grid = list[list[int]]
AROUND = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}


# -- a target from numbers -------------------------------------------------------------------------


def _expression(answer: str, data: dict) -> list | None:
    """[signs, the expression in postfix order, as `tasks.expression` reads it]: a minus in front of
    an expression or behind an open parenthesis is a sign, read as 0 - ..."""
    signed, signs = re.subn(r"(^|\()(\s*)-", r"\g<1>\2 0 -", answer.strip())
    postfix = expression.to_postfix(signed)
    return None if postfix is None or len(postfix) > 99 else [signs, postfix]


def _reaches(value: list, data: dict) -> bool:
    """The target, with each number once; the zeros of the signs are none of them."""
    signs, postfix = value
    used = Counter(one for one in postfix if isinstance(one, int))
    used[0] -= signs
    return +used == Counter(data["numbers"]) and expression.evaluate(postfix) == data["target"]


def _target(metadata: dict) -> dict:
    return {"numbers": metadata["numbers"], "target": metadata.get("target", 24)}


# -- grids -----------------------------------------------------------------------------------------


def _whole(answer: str) -> Grid | None:
    """Rows of whole numbers."""
    rows = grid(answer)
    if rows is None or any(cell.denominator != 1 for row in rows for cell in row):
        return None
    return [[int(cell) for cell in row] for row in rows]


def _keeps(found: Grid, given: Grid, empty: object = 0) -> bool:
    """The same shape, and what is given unchanged."""
    if [len(row) for row in found] != [len(row) for row in given]:
        return False
    pairs = [p for x, y in zip(found, given, strict=True) for p in zip(x, y, strict=True)]
    return all(was in (empty, now) for now, was in pairs)


def _latin(found: Grid) -> bool:
    """1 to n once in each row and column."""
    all_of = set(range(1, len(found) + 1))
    return all(set(line) == all_of for line in (*found, *zip(*found, strict=True)))


def _sudoku(found: Grid, data: dict) -> bool:
    if not _keeps(found, data["puzzle"]) or not _latin(found):
        return False
    n, side = len(found), {4: 2, 9: 3}[len(found)]
    corners = [(r, c) for r in range(0, n, side) for c in range(0, n, side)]
    boxes = [{found[r + i][c + j] for i in range(side) for j in range(side)} for r, c in corners]
    return all(len(box) == n for box in boxes)


def _signs(answer: str) -> Grid | None:
    """Rows of digits. The signs < > ∧ ∨ around them are the puzzle's, and do not count."""
    if not re.fullmatch("[1-9<>∧∨ \n]+", answer.strip()):
        return None
    rows = [[int(digit) for digit in re.findall("[1-9]", line)] for line in answer.split("\n")]
    return [row for row in rows if row] or None


def _futoshiki(found: Grid, data: dict) -> bool:
    if not _keeps(found, data["puzzle"]) or not _latin(found):
        return False
    sides = [(found[a][b], found[c][d], sign) for a, b, c, d, sign in data["constraints"]]
    return all(x < y if sign == "<" else x > y for x, y, sign in sides)


def _kakurasu(found: Grid, data: dict) -> bool:
    """The places of the ones, from 1, add up to the row's and the column's sums."""
    size = len(data["row_sums"]), len(data["col_sums"])
    if [len(row) for row in found] != [size[1]] * size[0] or not {0, 1} >= set().union(*found):
        return False
    sums = [[sum(place * x for place, x in enumerate(line, 1)) for line in lines]
            for lines in (found, zip(*found, strict=True))]  # fmt: skip
    return sums == [data["row_sums"], data["col_sums"]]


def _survo(found: Grid, data: dict) -> bool:
    """The last number of each line is the sum of the others; the numbers to place, each once."""
    given = data["puzzle"]
    if not _keeps(found, given):
        return False
    pairs = [p for x, y in zip(found, given, strict=True) for p in zip(x, y, strict=True)]
    placed = sorted(now for now, was in pairs if was == 0)
    lines = (*found, *zip(*found, strict=True))
    sums = all(sum(line[:-1]) == line[-1] for line in lines)
    return sums and placed == sorted(data["candidate_numbers"])


def _board(answer: str) -> list[list[str]] | None:
    """Rows of Q and _ with spaces between them."""
    rows = [line.split() for line in answer.strip().split("\n")]
    return None if any(not row or not set(row) <= {"Q", "_"} for row in rows) else rows


def _queens(board: list[list[str]], data: dict) -> bool:
    if not _keeps(board, data["puzzle"], "_"):
        return False
    n, ways = len(board), ((0, 1), (1, 0), (1, 1), (1, -1))
    places = [(r, c) for r, row in enumerate(board) for c, cell in enumerate(row) if cell == "Q"]
    return len(places) == n and all(len({r * a + c * b for r, c in places}) == n for a, b in ways)


# -- moves -----------------------------------------------------------------------------------------

_MOVE = re.compile(r"move disk ([0-9]{1,2}) from peg ([0-9]{1,2}) to peg ([0-9]{1,2})\.?")


def _disks(answer: str) -> list[list[int]] | None:
    """Lines "Move disk 1 from Peg 2 to Peg 3" as [1, 2, 3]."""
    lines = [" ".join(line.casefold().split()) for line in answer.strip().split("\n")]
    moves = [_MOVE.fullmatch(line) for line in lines if line]
    return None if None in moves else [[int(part) for part in move.groups()] for move in moves]


def _hanoi(moves: list[list[int]], data: dict) -> bool:
    """All disks on the target, by legal moves; how many is not asked."""
    pegs: dict[int, list[int]] = {peg: [] for peg in range(1, data["num_pegs"] + 1)}
    pegs[data["start_peg"]] = list(range(data["num_disks"], 0, -1))
    for disk, source, target in moves:
        if not {source, target} <= set(pegs) or source == target:
            return False
        if pegs[source][-1:] != [disk] or (pegs[target] and pegs[target][-1] < disk):
            return False
        pegs[target].append(pegs[source].pop())
    return len(pegs[data["target_peg"]]) == data["num_disks"]


def _pushes(answer: str) -> str | None:
    """ "LDURRU" """
    found = answer.strip()
    return found if found and set(found) <= set(AROUND) else None


def _sokoban(moves: Sequence[str], data: dict) -> bool:
    """Every box on a goal at the end. A step against a wall, or a box that is stuck, is none."""
    rows = [line.split() for line in data["gamestr"].strip().split("\n")]
    cells = {(r, c): x for r, row in enumerate(rows) for c, x in enumerate(row)}
    boxes = {place for place, x in cells.items() if x in "@$"}
    goals = {place for place, x in cells.items() if x in "X$%"}
    (me,) = [place for place, x in cells.items() if x in "*%"]
    for move in moves:
        dr, dc = AROUND[move]
        there, behind = (me[0] + dr, me[1] + dc), (me[0] + 2 * dr, me[1] + 2 * dc)
        if cells.get(there, "+") == "+":
            continue
        if there in boxes:
            if behind in boxes or cells.get(behind, "+") == "+":
                continue
            boxes = boxes - {there} | {behind}
        me = there
    return boxes <= goals


CHECKERS: dict[str, Checker] = {
    "countdown": Checker(_expression, _reaches, _target, many=True),
    "puzzle24": Checker(_expression, _reaches, _target, many=True),
    "sudoku": puzzle(_whole, _sudoku, "puzzle"),
    "mini_sudoku": puzzle(_whole, _sudoku, "puzzle"),
    "futoshiki": puzzle(_signs, _futoshiki, "puzzle", "constraints"),
    "kakurasu": puzzle(_whole, _kakurasu, "row_sums", "col_sums"),
    "survo": puzzle(_whole, _survo, "puzzle", "candidate_numbers"),
    "n_queens": puzzle(_board, _queens, "puzzle"),
    "tower_of_hanoi": puzzle(_disks, _hanoi, "num_disks", "num_pegs", "start_peg", "target_peg"),
    "sokoban": puzzle(_pushes, _sokoban, "gamestr"),
}
