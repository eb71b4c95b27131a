"""`r1lab watch --browser`: runs as a page that follows them, from a server on this machine alone.

The server listens on 127.0.0.1, reads the runs' files, and writes nothing. Who comes without the
token, or under another host's name, gets nothing; the page may fetch from nowhere else, and runs no
script but ours (Content-Security-Policy), whatever a model has written into a completion.
"""

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

from r1lab.basics.errors import R1LabError
from r1lab.show.cards import state
from r1lab.show.inspect_page import inspect_html
from r1lab.show.runs import Run
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
        host = self.headers.get("Host", "").partition(":")[0]  # ssh may forward another port
        name, token = f"r1lab-{self.server.port}", self.server.token
        if host not in ("127.0.0.1", "localhost"):
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
        elif path == "inspect":
            with self.server.turn:
                runs = self.server.find()
            try:
                body, code = inspect_html(runs, given), 200
            except R1LabError as error:
                body, code = f'<p>{safe_text(error)}</p><a href=".">back</a>', 404
            status = "the completions that the run has kept"
            self.reply(PAGE.format(title=title, body=body, scripts="", status=status), code=code)
        else:
            self.reply("there is no such page\n", "text/plain", 404)
