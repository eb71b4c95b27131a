"""Two loops as drawings: GRPO's, which returns through the lessons with "you are here", and the
paper's RL infrastructure (arXiv 2501.12948v2, appendix B.1)."""

from collections.abc import Sequence

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
# module of the paper -> what it does, how it is made fast, what stands for it here
MODULES = (
    ("rollout", ("vLLM workers sample", "the completions"),
     ("MTP: speculative decoding;", "copies of busy experts"), "r1lab.sampler"),
    ("inference", ("reward models and the", "reference score them"),
     ("loads its models only", "for its turn"), "losses, reward_model"),
    ("rule-based reward", ("code executor, answer", "and format checks"),
     ("asynchronous: hidden behind", "rollout and inference"), "rewards, sandbox"),
    ("training", ("loss, backward,", "optimizer step"),
     ("sorted and packed rows", "(Best-Fit); DualPipe"), "grpo, trl_backend"),
)  # fmt: skip
INK, GREY = COLOURS["trained"], "#888888"
GAP, TOP = 20, 26  # px between two boxes and above them
HEAD = 'font-size="15" font-weight="600"'
SMALL = 'font-size="11"'

Line = tuple[str, float, str]  # words in a box, how far below its top, how they look


def roadmap(*here: str) -> None:
    """Show the loop of GRPO with "you are here" at the stations named."""
    _show(roadmap_svg(*here), _described(here))


def roadmap_svg(*here: str) -> str:
    """The loop of GRPO as SVG, with the stations named in `here` marked. Colours are the page's own
    (`currentColor`), so it reads on light and dark pages. Raises R1LabError for another station."""
    unknown = [name for name in here if name not in STATIONS]
    if unknown:
        raise R1LabError(f"no station {unknown[0]!r} on the roadmap: use {', '.join(STATIONS)}")
    boxes = [
        [(words, 22, HEAD), (detail, 42, ""), (symbol, 64, 'font-size="13"'),
         (lesson, 85, 'opacity="0.85"')]
        for words, detail, symbol, lesson in STATIONS.values()
    ]  # fmt: skip
    words = "repeat with new prompts: the updated policy samples the next rollout (lesson 05)"
    marked = [name in here for name in STATIONS]
    return _loop(boxes, 132, 96, words, title=_described(here), marked=marked)


def _described(here: tuple[str, ...]) -> str:
    place = f" You are at: {', '.join(here)}." if here else ""
    return f"The GRPO loop: {' → '.join(STATIONS)} → sample …{place}"


def infrastructure() -> None:
    """Show the four modules that a step of R1 passes, with our counterparts."""
    names = " → ".join(name for name, *_ in MODULES)
    _show(infrastructure_svg(), f"One RL step of the paper: {names} → rollout …")


def infrastructure_svg() -> str:
    """The drawing as SVG, in the page's own colour."""
    boxes = [
        [(name, 22, HEAD)]
        + [(line, 46 + 15 * i, SMALL) for i, line in enumerate(work)]
        + [(line, 83 + 15 * i, f'{SMALL} opacity="0.85" font-style="italic"')
           for i, line in enumerate(fast)]
        + [(f"here: {ours}", 124, f'{SMALL} fill="{INK}" font-weight="600"')]
        for name, work, fast, ours in MODULES
    ]  # fmt: skip
    title = "The four modules of the paper's RL step, and their counterparts here"
    words = ("new parameters go to the workers; each module is moved out of GPU memory (to RAM or "
             "disk) when its turn is over")  # fmt: skip
    return _loop(boxes, 200, 142, words, title=title, marked=[False] * len(boxes))


def _show(drawing: str, text: str) -> None:
    show_html(f'<div style="overflow-x:auto;color:inherit">{drawing}</div>', text)


def _loop(
    boxes: Sequence[Sequence[Line]],
    width: int,
    height: int,
    words: str,
    *,
    title: str,
    marked: Sequence[bool],
) -> str:
    """Boxes in a row, with an arrow from each to the next and from the last back to the first,
    below which stand the words, as SVG."""
    parts, bottom, step = [], TOP + height, width + GAP
    for number, (lines, here) in enumerate(zip(boxes, marked, strict=True)):
        x = 10 + number * step
        parts.append(_box(x, width, height, lines, here))
        if number + 1 < len(boxes):
            tip, y = x + step - 3, TOP + height / 2
            parts.append(f'<path d="M{x + width + 2} {y} H{tip - 5}" stroke="currentColor"/>')
            parts.append(f'<path d="M{tip} {y} l-8 -5 v10 z"/>')
    first = 10 + width / 2
    last, right = first + (len(boxes) - 1) * step, 20 + len(boxes) * step - GAP
    back = f"M{last} {bottom} V{bottom + 26} H{first} V{bottom + 5}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {bottom + 58}" role="img" '
        f'style="width:100%;min-width:{right - 160}px;max-width:{right + 40}px;height:auto" '
        'fill="currentColor" font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif" '
        f'font-size="12"><title>{title}</title>{"".join(parts)}'
        f'<path d="{back}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f'<path d="M{first} {bottom + 3} l-5 8 h10 z"/>'
        f'<text x="{right / 2}" y="{bottom + 45}" text-anchor="middle">{words}</text></svg>'
    )


def _box(x: float, width: int, height: int, lines: Sequence[Line], here: bool) -> str:
    """A box with its lines; `here`: filled, and marked above."""
    middle, place = x + width / 2, 'text-anchor="middle"'
    text = "".join(
        f'<text x="{middle}" y="{TOP + y}" {place} {look}>{words}</text>'
        for words, y, look in lines
    )
    fill = f'fill="{GREY}" fill-opacity="0.12" stroke="{GREY}"'
    if here:
        fill, text = f'fill="{INK}" stroke="{INK}"', f'<g fill="#fff">{text}</g>'
        text += f'<text x="{middle}" y="17" {place} font-weight="600">▼ you are here</text>'
    return (
        f'<rect x="{x}" y="{TOP}" width="{width}" height="{height}" rx="8" {fill} '
        f'stroke-width="1.5"/>{text}'
    )
