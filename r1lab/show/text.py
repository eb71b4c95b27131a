"""Completions and tables as HTML."""

import html
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from r1lab.answers import reflection_words
from r1lab.basics.errors import R1LabError
from r1lab.show.notebook import show_html
from r1lab.show.style import RIGHT, faint


def table_html(rows: Sequence[Sequence[Any]]) -> str:
    """Rows of words as an HTML table; the first row is the head. Whatever is in them is text."""

    def line(cells: Sequence[Any], tag: str) -> str:
        look = 'style="text-align:left;vertical-align:top;padding:3px 14px 3px 0"'
        return "".join(f"<{tag} {look}>{safe_text(cell)}</{tag}>" for cell in cells)

    head, *body = rows
    lines = "".join(f"<tr>{line(row, 'td')}</tr>" for row in body)
    return f"<table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{lines}</tbody></table>"


def show_table(rows: Sequence[Sequence[Any]]) -> None:
    """Display rows of words as a table; the first row is the head. Not as markdown: a model's words
    may be <think> or anything else that markdown would take for its own."""
    text = "\n".join(" | ".join(" ".join(str(cell).split()) for cell in row) for row in rows)
    show_html(table_html(rows), text)


# --- completions as text -------------------------------------------------------------------------

MOST_TOKENS, MOST_CHARACTERS = 2_000, 1_000  # shown: tokens of an answer, characters of one text
_STYLE = """<style>
.r1c {font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, "Noto Sans Mono CJK SC",
 "PingFang SC", "Microsoft YaHei", monospace; font-size: 14px; line-height: 1.9; color: inherit;
 border: 1px solid rgba(128,128,128,.4); border-radius: 6px; padding: 10px 14px; margin: 6px 0;
 max-width: 900px; overflow-wrap: anywhere;}
.r1c .t {padding: 2px 1px; border-radius: 3px; white-space: pre-wrap;}
.r1c .c {outline: 2px solid #D55E00; outline-offset: -1px;}
.r1c .w {text-decoration: underline dotted; text-underline-offset: 4px;}
.r1c .h {font-family: sans-serif; font-weight: 600; line-height: 1.4;}
.r1c .k {font-family: sans-serif; font-size: 13px; opacity: .85; line-height: 1.6;}
.r1c .s {display: inline-block; width: 18px; height: 12px; border-radius: 2px; margin: 0 3px 0 8px;
 border: 1px solid rgba(128,128,128,.5);}
.r1c-two {display: flex; flex-wrap: wrap; gap: 0 14px;} .r1c-two > div {flex: 1 1 320px;}
</style>"""


def completion_html(
    tokens: Sequence[str],
    values: Sequence[float | None] | None = None,
    kind: str = "plain",
    title: str = "",
    prompt: str = "",
    facts: Mapping[str, Any] | None = None,
    marks: Sequence[bool] | None = None,
) -> str:
    """A sampled answer as HTML, each token on a colour that says its value.

    tokens (T): the tokens' texts. values (T): of one of KINDS. "advantage": blue, made likelier;
    orange, made less likely; full at ±ADVANTAGE_FULL. "logprob": the darker, the more surprising to
    the model that wrote it. "ratio", of the policy now to the one that wrote it: blue, likelier
    now; orange, less likely. "kl", of the policy to the reference: the darker, the more. None: no
    colour. marks (T): tokens with a frame, such as clipped ones. Reflective words are underlined.
    title, prompt and facts ({"reward": 1.0}) stand above. Returns a fragment without script or
    links; whatever the model wrote is shown as text. Colours are translucent, so it reads on light
    and dark pages. Raises R1LabError for an unknown kind, or other numbers of tokens and values.
    """
    if kind not in KINDS:
        raise R1LabError(f"kind {kind!r} is not known: use one of {', '.join(KINDS)}.")
    if values is not None and len(values) != len(tokens):
        raise R1LabError(f"{len(tokens)} tokens, but {len(values)} values: one each is needed.")
    shown = list(tokens[:MOST_TOKENS])
    numbers = [math.nan if v is None else float(v) for v in (values if values is not None else ())]
    numbers = numbers[:MOST_TOKENS] if kind != "plain" else []
    # Word-level tokens carry no spaces of their own; pieces of a BPE tokenizer do.
    gap = "" if any(token[:1].isspace() for token in shown[1:]) else " "
    spans = [
        _span(token, numbers[i] if numbers else math.nan, kind, bool(marks and marks[i]))
        for i, token in enumerate(shown)
    ]
    more = len(tokens) - len(shown)
    head = f'<div class="h">{safe_text(title)}</div>' if title else ""
    head += f'<div class="k">{safe_text(prompt)}</div>' if prompt else ""
    if facts:
        pairs = " · ".join(f"{safe_text(k)} {safe_text(_short(v))}" for k, v in facts.items())
        head += f'<div class="k">{pairs}</div>'
    tail = f'<div class="k">… {more:,} more tokens</div>' if more else ""
    body = f'<div dir="ltr">{gap.join(spans)}</div>'
    return f'{_STYLE}<div class="r1c">{head}{body}{tail}{_legend(numbers, kind)}</div>'


def _span(token: str, value: float, kind: str, marked: bool = False) -> str:
    word = (" w" if reflection_words(token) else "") + (" c" if marked else "")
    if not math.isfinite(value):
        return f'<span class="t{word}">{safe_text(token)}</span>'
    return (
        f'<span class="t{word}" style="background:{_tint(value, kind)}" '
        f'title="{KINDS[kind].format(value)}">{safe_text(token)}</span>'
    )


def _tint(value: float, kind: str) -> str:
    """Background of a value; translucent, at most half covering, so that text stays readable."""
    if kind in ("advantage", "ratio"):
        size = value / ADVANTAGE_FULL
        if kind == "ratio":
            size = math.log(max(value, 1e-9)) / RATIO_FULL
        strength = 0.5 * min(1.0, abs(size))
        return faint(RIGHT if size >= 0 else "#E69F00", round(strength, 3))
    size = -value / LOGPROB_FLOOR if kind == "logprob" else value / KL_FULL
    return faint("#CC79A7", round(0.7 * min(1.0, size), 3) if size > 0 else 0)


# kinds of values -> what stands under the mouse
KINDS = {
    "advantage": "advantage {:+.3f}", "logprob": "log-prob {:+.3f}", "ratio": "ratio {:.3f}",
    "kl": "KL {:.4f}", "plain": "",
}  # fmt: skip
LOGPROB_FLOOR = 4.0  # nats below certainty at which the colour is full: a probability of 1 in 55
ADVANTAGE_FULL = 2.0  # size at which the colour is full, the same in every text
RATIO_FULL = 0.4  # size of the ratio's logarithm at which the colour is full: 0.67 and 1.49
KL_FULL = 1.0  # nats at which the colour is full


# kind -> the legend: what the values are, some of them in words, and a remark
LEGENDS = {
    "advantage": ("advantage: ", {-2: "-2", -1: "-1", 0: "+0", 1: "+1", 2: "+2"},
                  " (blue: made likelier, orange: less)"),
    "logprob": ("probability of each token when sampled: ",
                {0: "certain", -1: "37%", -2: "14%", -4: "2%"}, ""),
    "ratio": ("ratio after the update: ", {x: f"{x:g}" for x in (0.7, 0.8, 1, 1.2, 1.4)},
              " (framed: clipped)"),
    "kl": ("KL to the reference (k3, nats): ", {x: f"{x:g}" for x in (0, 0.25, 0.5, 1)}, ""),
}  # fmt: skip


def _legend(numbers: Sequence[float], kind: str) -> str:
    finite = [v for v in numbers if math.isfinite(v)]
    if not finite:
        return ""
    what, scale, remark = LEGENDS[kind]
    if kind == "advantage" and max(finite) - min(finite) < 1e-9:
        what += f"{finite[0]:+.2g} on every token; "
    for value, words in scale.items():
        what += f'<span class="s" style="background:{_tint(value, kind)}"></span>{words}'
    return f'<div class="k">{what}{remark}</div>'


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# controls, surrogates, zero width and bidirectional characters, ends of a line and of a paragraph
INVISIBLE = {"Cc", "Cs", "Cf", "Zl", "Zp"}


def safe_text(text: Any) -> str:
    """Text for HTML: escaped, and as `visible_text` has it."""
    return html.escape(visible_text(text), quote=True).replace("\n", "<br>")


def visible_text(text: Any) -> str:
    """Text for a terminal: control characters are visible, nothing can reorder or end the line."""
    text = text if isinstance(text, str) else str(text)
    shown = []
    for character in text[:MOST_CHARACTERS]:
        code = ord(character)
        if character == "\n":
            shown.append("↵\n")
        elif code < 32 and character != "\t":
            shown.append(chr(0x2400 + code))
        elif character != "\t" and unicodedata.category(character) in INVISIBLE:
            shown.append(f"⟨U+{code:04X}⟩")
        else:
            shown.append(character)
    if len(text) > MOST_CHARACTERS:
        shown.append(f"… {len(text) - MOST_CHARACTERS:,} more characters")
    return "".join(shown)


def compare_completions(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Two answers beside each other (below each other where the page is narrow), as HTML.

    before, after: keyword arguments of `completion_html`, such as {"tokens": [...], "title": ...}.
    """
    columns = "".join(f"<div>{completion_html(**one)}</div>" for one in (before, after))
    return f'<div class="r1c-two">{columns}</div>'


def show_completion(
    tokens: Sequence[str],
    values: Sequence[float | None] | None = None,
    kind: str = "plain",
    title: str = "",
    **options: Any,
) -> None:
    """Display `completion_html`; the plain text goes with it for readers without HTML."""
    show_html(
        completion_html(tokens, values, kind, title, **options),
        f"{title}: {' '.join(tokens[:MOST_TOKENS])}".strip(": "),
    )
