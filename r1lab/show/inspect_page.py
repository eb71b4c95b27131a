"""The rollout inspector as a page of `r1lab watch --browser`: links and a form, no script."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from r1lab.show import rollouts
from r1lab.show.inspectors import changes_html
from r1lab.show.runs import Run
from r1lab.show.text import KINDS, safe_text

MOST = 24  # groups on one page


def inspect_html(runs: Sequence[Run], given: Mapping[str, str]) -> str:
    """The page's body for a query: run (its number), step, show, colour, search, problem. What is
    not there, or not known, takes its default."""
    number = _whole(given.get("run"), 0, len(runs) - 1)
    run = runs[number]
    rows = rollouts.load(run.folder)
    steps = sorted({row["step"] for row in rows})
    step = _whole(given.get("step"), steps[-1], steps[-1])
    step = max((one for one in steps if one <= step), default=steps[0])
    kinds = [k for k in KINDS if k == "plain" or any(rollouts.values_of(r, k)[0] for r in rows)]
    show, colour = given.get("show", "all"), given.get("colour", kinds[0])
    show = show if show in rollouts.filters(rows) else "all"
    colour = colour if colour in kinds else kinds[0]
    search, problem = given.get("search", "")[:200], given.get("problem", "")
    state = {"run": number, "step": step, "show": show, "colour": colour, "search": search}

    found = rollouts.select(rows, show, search)
    at = rollouts.groups([row for row in rows if row["step"] == step])
    names = list(rollouts.groups([row for row in found if row["step"] == step]))
    if problem:
        names = [problem] if problem in names else []
    parts = []
    for name in names[:MOST]:
        parts.append(rollouts.group_html(at[name], colour))
        parts.append(_through(rows, name, state))
        parts.append(changes_html(rollouts.changes(rows, step, name)))
    left = len(names) - MOST
    parts += [f"<p>{left} more questions: search, or choose fewer.</p>"] if left > 0 else []
    nothing = "<p>No completion of this step is of this kind.</p>"
    there = sorted({row["step"] for row in found})
    head = f"<p>{len(found):,} of {len(rows):,} completions that were kept are of this kind; "
    head += f"{len(steps)} steps were kept.</p>"
    form = _form(runs, state, rollouts.filters(rows), kinds)
    return f"{form}{head}{_steps(there, step, state)}{''.join(parts) or nothing}"


def _whole(text: str | None, default: int, most: int) -> int:
    good = text is not None and text.isascii() and text.isdigit() and len(text) < 12
    return min(int(text), most) if good else default


def _link(words: str, state: Mapping, **changed) -> str:
    return f'<a href="inspect?{safe_text(urlencode({**state, **changed}))}">{safe_text(words)}</a>'


def _form(runs, state, shows, kinds) -> str:
    def choice(name: str, options: Mapping) -> str:
        inside = "".join(
            f'<option value="{safe_text(value)}"{" selected" if value == state[name] else ""}>'
            f"{safe_text(words)}</option>"
            for value, words in options.items()
        )
        return f'<label>{name} <select name="{name}">{inside}</select></label>'

    return (
        '<form action="inspect" method="get">'
        + choice("run", {i: run.name for i, run in enumerate(runs)})
        + choice("show", {name: name for name in shows})
        + choice("colour", {name: name for name in kinds})
        + f'<input type="hidden" name="step" value="{state["step"]}">'
        + f'<label>search <input name="search" value="{safe_text(state["search"])}"></label>'
        + '<button>show</button> <a href=".">back to the curves</a></form>'
    )


def _steps(steps: Sequence[int], step: int, state: Mapping) -> str:
    """Links to the kept steps that have such completions, the next and the last before."""
    before, after = [s for s in steps if s < step], [s for s in steps if s > step]
    near = [*before[-8:], step, *after[:8]]
    links = [f"<b>{s}</b>" if s == step else _link(str(s), state, step=s) for s in near]
    back = _link("first", state, step=before[0]) if before else "first"
    on = _link("last", state, step=after[-1]) if after else "last"
    return f'<nav id="steps">step: {back} … {" ".join(links)} … {on}</nav>'


def _through(rows: Sequence[rollouts.Row], name: str, state: Mapping) -> str:
    """Links to the other steps at which a question was asked."""
    steps = sorted({row["step"] for row in rows if row["problem"] == name})
    if len(steps) < 2:
        return ""
    links = " ".join(_link(str(s), state, step=s, problem=name, show="all") for s in steps[-40:])
    return f"<p>this question through training, at step {links}</p>"
