"""The GRPO loop as one drawing that returns through the lessons, with "you are here"."""

from __future__ import annotations

from r1lab.basics.errors import R1LabError
from r1lab.show.notebook import show_html
from r1lab.show.style import COLOURS

#: station -> its words and its symbol
STATIONS = {
    "sample": ("sample", "G completions", "o₁ … o_G ~ π_old", "lesson 01"),
    "reward": ("reward", "a verifier checks", "r₁ … r_G", "lesson 02"),
    "advantage": ("advantage", "against the group", "A₁ … A_G", "lesson 03"),
    "objective": ("objective", "ratio, clip, KL term", "J(θ)", "lesson 04"),
    "update": ("update", "a gradient step", "θ ← θ + η ∇J", "lesson 05"),
}
_WIDTH, _GAP, _TOP, _HEIGHT = 132, 20, 26, 96  # of a station


def roadmap_svg(*here: str) -> str:
    """The loop of GRPO as SVG, with the stations named in `here` marked. Colours are the page's own
    (`currentColor`), so it reads on light and dark pages. Raises R1LabError for another station."""
    unknown = [name for name in here if name not in STATIONS]
    if unknown:
        raise R1LabError(f"no station {unknown[0]!r} on the roadmap: use {', '.join(STATIONS)}")
    parts = [_station(i, name, name in here) for i, name in enumerate(STATIONS)]
    last = 10 + 4 * (_WIDTH + _GAP) + _WIDTH / 2
    bottom = _TOP + _HEIGHT
    back = f"M{last} {bottom} V{bottom + 26} H{10 + _WIDTH / 2} V{bottom + 5}"
    words = "repeat with new prompts: the updated policy samples the next rollout (lesson 05)"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 180" role="img" '
        'style="width:100%;min-width:600px;max-width:800px;height:auto" fill="currentColor" '
        'font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif" font-size="12">'
        f"<title>{_described(here)}</title>{''.join(parts)}"
        f'<path d="{back}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f"{_head(10 + _WIDTH / 2, bottom + 3, 'up')}"
        f'<text x="380" y="{bottom + 45}" text-anchor="middle">{words}</text></svg>'
    )


def roadmap(*here: str) -> None:
    """Show the loop of GRPO with "you are here" at the stations named."""
    box = '<div style="overflow-x:auto;color:inherit">{}</div>'
    show_html(box.format(roadmap_svg(*here)), _described(here))


def _described(here: tuple[str, ...]) -> str:
    loop = " → ".join(STATIONS)
    return f"The GRPO loop: {loop} → sample …" + (
        f" You are at: {', '.join(here)}." if here else ""
    )


def _station(number: int, name: str, marked: bool) -> str:
    """One box of the loop, and the arrow that leads to the next."""
    words, detail, symbol, lesson = STATIONS[name]
    x, ink = 10 + number * (_WIDTH + _GAP), COLOURS["trained"]
    middle = x + _WIDTH / 2
    fill = f'fill="{ink}"' if marked else 'fill="#888888" fill-opacity="0.12"'
    line = f'stroke="{ink if marked else "#888888"}" stroke-width="1.5"'
    lines = ((words, 22, 'font-size="15" font-weight="600"'), (detail, 42, ""),
             (symbol, 64, 'font-size="13"'), (lesson, 85, 'opacity="0.85"'))  # fmt: skip
    text = "".join(
        f'<text x="{middle}" y="{_TOP + y}" text-anchor="middle" {look}>{what}</text>'
        for what, y, look in lines
    )
    box = f'<rect x="{x}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" {fill} {line}/>'
    text = f'<g fill="#fff">{text}</g>' if marked else text
    if marked:
        text += (
            f'<text x="{middle}" y="17" text-anchor="middle" font-size="13" font-weight="600">'
            "▼ you are here</text>"
        )
    arrow = "" if number == 4 else _head(x + _WIDTH + _GAP - 3, _TOP + _HEIGHT / 2, "right")
    if arrow:
        start, end, y = x + _WIDTH + 2, x + _WIDTH + _GAP - 8, _TOP + _HEIGHT / 2
        arrow += f'<path d="M{start} {y} H{end}" stroke="currentColor" stroke-width="1.5"/>'
    return box + text + arrow


def _head(x: float, y: float, way: str) -> str:
    """The point of an arrow, its tip at (x, y)."""
    by = {"right": "l-8 -5 v10 z", "up": "l-5 8 h10 z"}[way]
    return f'<path d="M{x} {y} {by}" fill="currentColor"/>'
