"""`r1lab watch --browser`: runs as a page that follows them, from a server on this machine alone.

The server listens on 127.0.0.1, reads the runs' files, and writes nothing. Who comes without the
token, or under another host's name, gets nothing; the page may fetch from nowhere else, and runs no
script but ours (Content-Security-Policy), whatever a model has written into a completion.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import plotly
import plotly.io as pio

from r1lab.show.curves import learning_curves
from r1lab.show.inspectors import sample_html
from r1lab.show.notebook import CONFIG
from r1lab.show.runs import MEASURES, Run
from r1lab.show.style import RIGHT, palette
from r1lab.show.text import safe_text

HERE = Path(__file__).resolve().parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><link rel="stylesheet" href="watch.css">
</head><body><header><h1>{title}</h1><p id="link" role="status">{status}</p></header>
<main>{body}</main>{scripts}</body></html>"""
LIVE = '<div id="table"></div><div id="figures"></div><div id="runs"></div>'
SCRIPTS = '<script src="plotly.js" defer></script><script src="watch.js" defer></script>'


# --- the runs as HTML -----------------------------------------------------------------------------


def spark(values: Sequence[float], ink: str = RIGHT, width: int = 120, height: int = 26) -> str:
    """A curve as a small drawing, from 0 (or the smallest value) to 1 (or the largest)."""
    if not values:
        return ""
    low, high = min(0.0, *values), max(1.0, *values)
    step = (width - 4) / max(1, len(values) - 1)
    points = " ".join(
        f"{2 + i * step:.1f},{height - 2 - (height - 4) * (v - low) / (high - low):.1f}"
        for i, v in enumerate(values)
    )
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="curve">'
        f'<polyline points="{points}" fill="none" stroke="{ink}" stroke-width="1.5"/></svg>'
    )


def table(runs: Sequence[Run]) -> str:
    """A row for each run: its state, the last step's measures, the accuracy's curve, and the first
    sentence of its diagnosis where there are several."""
    found = [run.measures() for run in runs]
    names = [name for name, _ in MEASURES.values() if any(name in one for one in found)]
    several = len(runs) > 1
    head = ["run", "state", *names, *(["accuracy so far", "diagnosis"] if several else [])]
    rows = []
    for i, (run, one, ink) in enumerate(zip(runs, found, inks(runs), strict=True)):
        chip = f'<i class="chip" style="background:{ink}"></i>'
        told = f'<b class="{run.state}">{run.state}</b> {safe_text(run.words())}'
        cells = [
            f'<th scope="row">{chip}<a href="#run-{i}">{safe_text(run.name)}</a></th>',
            f'<td class="state">{told}</td>',
        ]
        cells += [f"<td>{safe_text(one.get(name, ''))}</td>" for name in names]
        if several:
            first = run.diagnosis()
            told = first[1] if len(first) > 1 and "No link" not in first[0] else "".join(first[:1])
            cells.append(f"<td>{spark(run.curve('accuracy'), ink)}</td>")
            cells.append(f'<td class="told">{safe_text(told)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def inks(runs: Sequence[Run]) -> list[str]:
    """A colour for each run, whatever its name."""
    return palette([f"run {i}" for i in range(len(runs))])


def figures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """plotly's JSON of each measure against the step, the runs beside each other."""
    steps = max((run.steps for run in runs), default=1)
    made = []
    for key, (name, _) in MEASURES.items():
        drawn = {run.name: [r for r in run.history if key in r] for run in runs}
        drawn = {label.replace("<", "‹"): rows for label, rows in drawn.items() if rows}
        if not drawn or (key == "loss" and any("accuracy" in r for r in runs[0].history[:1])):
            continue
        fig = learning_curves(drawn, keys=[key], steps=steps, title=name)
        ink_of = dict(zip((run.name.replace("<", "‹") for run in runs), inks(runs), strict=True))
        for trace in fig.data:
            label = (trace.legendgroup or "").removesuffix(" raw")
            if label in ink_of:
                faint = trace.line.color.startswith("rgba")
                trace.line.color, trace.opacity = ink_of[label], 0.35 if faint else 1
        fig.update_layout(
            showlegend=False, height=250, margin={"l": 64, "r": 12, "t": 34, "b": 42},
            title={"y": 0.97, "font": {"size": 15}},
        )  # fmt: skip
        fig.update_yaxes(title_text=None)
        spec = json.loads(pio.to_json(fig, validate=False, remove_uids=True))
        spec["layout"].pop("width", None)
        made.append({"key": key, **spec, "config": CONFIG})
    return made


def details(number: int, run: Run, open_: bool) -> str:
    """A run's diagnosis, and the completions of its last step that kept any."""
    said = "".join(f"<li>{safe_text(one)}</li>" for one in run.diagnosis())
    rows = sorted(run.sample, key=lambda row: -(_finite(row.get("advantage")) or 0))
    shown = "".join(f"<div>{sample_html(as_sample(row))}</div>" for row in rows[:64])
    at = f"completions of step {rows[0]['step']}, by advantage" if rows else "no completions yet"
    return (
        f'<section id="run-{number}"><h2>{safe_text(run.name)}</h2>'
        f'<p>{safe_text(run.words())}</p><ul class="diagnosis">{said}</ul>'
        f'<details id="samples-{number}"{" open" if open_ else ""}><summary>{at}</summary>'
        f'<div class="r1c-two">{shown}</div></details></section>'
    )


def as_sample(row: Mapping[str, Any]) -> dict[str, Any]:
    """A kept completion with the types that `sample_html` draws, whatever wrote the file."""
    good = {key: row.get(key) for key in ("step", "prompt", "text", "correct")}
    good |= {key: _finite(row.get(key)) for key in ("reward", "advantage")}
    tokens, logprobs = row.get("tokens"), row.get("logprobs")
    if isinstance(tokens, list) and all(isinstance(one, str) for one in tokens):
        good["tokens"] = tokens
        if isinstance(logprobs, list) and len(logprobs) == len(tokens):
            good["logprobs"] = [_finite(one) for one in logprobs]
    if good["correct"] not in (True, False, None):
        good["correct"] = None
    return good


def _finite(value: Any) -> float | None:
    good = type(value) in (int, float) and abs(value) < 1e18
    return float(value) if good else None


def state(runs: Sequence[Run], seen: str = "") -> dict[str, Any]:
    """What the page draws. seen: the stamp of what it has drawn; figures and completions come only
    where they have changed since, the table always, because it says how long ago things were."""
    text = repr([(run.name, str(run.folder), run.stamp) for run in runs])
    stamp = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    found: dict[str, Any] = {"stamp": stamp, "table": table(runs)}
    if stamp != seen:
        found["figures"] = figures(runs)
        alone = len(runs) == 1
        found["runs"] = "".join(details(i, run, alone) for i, run in enumerate(runs))
    return found


# --- the server -----------------------------------------------------------------------------------


@cache
def _file(name: str) -> bytes:
    path = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return (path if name == "plotly.js" else HERE / name).read_bytes()


KINDS = {"js": "text/javascript", "css": "text/css"}


class Server(ThreadingHTTPServer):
    """The watching server: `find()` gives the runs. address: what to open, its token included."""

    daemon_threads = True

    def __init__(self, find: Callable[[], Sequence[Run]], title: str, port: int = 0) -> None:
        self.find, self.title, self.turn = find, title, Lock()
        self.token = secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def port(self) -> int:
        return self.server_address[1]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"


class Handler(BaseHTTPRequestHandler):
    """Answers GET for the page, its files and its data; anything else is refused."""

    server: Server
    server_version, sys_version = "r1lab", ""

    def log_message(self, *words: Any) -> None: ...

    def reply(self, body: bytes | str, kind: str = "text/html", code: int = 200, **more: str):
        body = body.encode("utf-8") if isinstance(body, str) else body
        self.send_response(code)
        heads = {
            "Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)),
            "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
        }  # fmt: skip
        for name, value in (heads | {k.replace("_", "-"): v for k, v in more.items()}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:  # noqa: N802
        url = urlsplit(self.path)
        given = {name: values[-1] for name, values in parse_qs(url.query).items()}
        hosts = {f"{name}:{self.server.port}" for name in ("127.0.0.1", "localhost")}
        name, token = f"r1lab-{self.server.port}", self.server.token
        if self.headers.get("Host") not in hosts:
            return self.reply("another host's name\n", "text/plain", 403)
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get(name)
        if "token" in given and hmac.compare_digest(given["token"].encode(), token.encode()):
            cookie = f"{name}={token}; HttpOnly; SameSite=Strict; Path=/"
            return self.reply("", code=303, Set_Cookie=cookie, Location=url.path)
        if cookie is None or not hmac.compare_digest(cookie.value.encode(), token.encode()):
            words = "the token is missing: open the address that r1lab watch has printed\n"
            return self.reply(words, "text/plain", 403)
        try:
            self.page(url.path.lstrip("/"), given)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def page(self, path: str, given: Mapping[str, str]) -> None:
        title = safe_text(self.server.title)
        if path == "":
            text = PAGE.format(title=title, body=LIVE, scripts=SCRIPTS, status="reads the runs …")
            self.reply(text)
        elif path in ("watch.js", "watch.css", "plotly.js"):
            self.reply(_file(path), KINDS[path.rpartition(".")[2]])
        elif path == "state":
            with self.server.turn:  # runs are read by one request at a time
                found = state(self.server.find(), given.get("seen", ""))
            self.reply(json.dumps(found), "application/json")
        else:
            self.reply("there is no such page\n", "text/plain", 404)
