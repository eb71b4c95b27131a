"""The paper's RL infrastructure as one drawing (arXiv 2501.12948v2, appendix B.1)."""

from __future__ import annotations

from r1lab.show.notebook import show_html
from r1lab.show.style import COLOURS

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
_WIDTH, _GAP = 200, 24


def infrastructure() -> None:
    """Show the four modules that a step of R1 passes, with our counterparts."""
    words = " → ".join(name for name, *_ in MODULES)
    box = '<div style="overflow-x:auto;color:inherit">{}</div>'
    show_html(box.format(infrastructure_svg()), f"One RL step of the paper: {words} → rollout …")


def infrastructure_svg() -> str:
    """The drawing as SVG, in the page's own colour."""
    parts = [_module(10 + i * (_WIDTH + _GAP), *one) for i, one in enumerate(MODULES)]
    last = 10 + 3 * (_WIDTH + _GAP) + _WIDTH / 2
    first = 10 + _WIDTH / 2
    line = 'fill="none" stroke="currentColor" stroke-width="1.5"'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 215" role="img" '
        'style="width:100%;min-width:700px;max-width:900px;height:auto" fill="currentColor" '
        'font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif" font-size="11">'
        "<title>The four modules of the paper's RL step, and their counterparts here</title>"
        f'{"".join(parts)}<path d="M{last} 156 V182 H{first} V162" {line}/>'
        f'<path d="M{first} 157 l-5 8 h10 z"/>'
        '<text x="450" y="205" text-anchor="middle">new parameters go to the workers; each module '
        "is moved out of GPU memory (to RAM or disk) when its turn is over</text></svg>"
    )


def _module(x: float, name: str, work: tuple, fast: tuple, ours: str) -> str:
    lines = [(name, 34, 'font-size="15" font-weight="600"')]
    lines += [(words, 58 + 15 * i, "") for i, words in enumerate(work)]
    lines += [(words, 95 + 15 * i, 'opacity="0.85" font-style="italic"')
              for i, words in enumerate(fast)]  # fmt: skip
    lines += [(f"here: {ours}", 136, f'fill="{COLOURS["trained"]}" font-weight="600"')]
    middle = x + _WIDTH / 2
    text = "".join(
        f'<text x="{middle}" y="{y}" text-anchor="middle" {look}>{words}</text>'
        for words, y, look in lines
    )
    arrow = ""
    if name != MODULES[-1][0]:
        end = x + _WIDTH + _GAP - 4
        arrow = f'<path d="M{end} 83 l-8 -5 v10 z"/>'
        arrow += f'<path d="M{x + _WIDTH + 2} 83 H{end - 6}" stroke="currentColor"/>'
    box = f'<rect x="{x}" y="12" width="{_WIDTH}" height="142" rx="8" fill="#888888" '
    return f'{box}fill-opacity="0.12" stroke="#888888" stroke-width="1.5"/>{text}{arrow}'
