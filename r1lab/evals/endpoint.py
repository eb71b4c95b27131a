"""A client of OpenAI's chat/completions protocol, as vLLM, llama.cpp and hosted models serve it.

One request is one completion (n = 1): each is retried, kept and billed alone. What may happen:

    429, 408, 5xx, a time-out, a connection     tried again: after Retry-After where the server
    refused or cut, a body that is no answer    says it, else after 1, 2, 4, ... s with jitter
    400, 413, 422                               `Refused`: this prompt is not for this server
    401, 402, 403, 404, 3xx and others          R1LabError: no request can succeed

**Dollars.** A body with `usage` is billed, used or not. An attempt that ends without one, though
the server may have worked (a time-out, a cut, garbage), is billed at what it can cost at most and
counted apart (`Attempt.certain` is False).

**The key** comes from an environment variable. It is in no repr, message or file: where a server
sends it back, it is replaced.
"""

import email.utils
import http.client
import json
import os
import random
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from r1lab.basics.errors import R1LabError, first_line
from r1lab.evals.tariff import Tariff

MOST_BYTES = 32 << 20  # of one response
LONGEST_WAIT = 900.0  # seconds; a server that asks for more ends the run
AGAIN = (408, 409, 425, 429)  # and 5xx
NOT_THIS_ONE = (400, 413, 422)
_SECRET = ("key", "token", "secret", "sig", "password")


class Refused(R1LabError):
    """The server will not answer this one request; others it may."""


class Unanswered(R1LabError):
    """All tries of one request failed."""


class Stopped(Exception):
    """The run was stopped while a request waited for its next try."""


@dataclass(frozen=True)
class Attempt:
    """One try that gave no completion: what it may have cost, and why."""

    reason: str
    dollars: float | None  # None: no tariff
    certain: bool  # False: an upper bound, the server sent no bill
    seconds: float


@dataclass(frozen=True)
class Reply:
    """One completion as a server sent it."""

    text: str
    thought: str  # reasoning that the server sends apart from the text, else ""
    finish: str  # "stop", "length", "content_filter", ...
    prompt_tokens: int
    completion_tokens: int
    estimated: bool  # the server sent no usage: tokens are a quarter of the bytes
    dollars: float | None
    seconds: float
    model: str  # as the server names it
    fingerprint: str


@dataclass
class Endpoint:
    """A server and a model on it. url: of the API ("http://localhost:8000/v1") or the full one of
    chat/completions. key_env: the environment variable with the key, which need not be set for a
    local server. timeout: seconds for one try. Raises R1LabError for a URL that cannot be right, or
    that holds a secret: it would be written into files."""

    url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    tariff: Tariff | None = None
    timeout: float = 600.0
    tries: int = 6
    pause: float = 1.0  # seconds before the second try, doubled for each one after it
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url if "://" in self.url else f"http://{self.url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise R1LabError(f"--endpoint takes a URL, as in http://localhost:8000/v1: {parts[1]}")
        query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
        secret = any(word in name.lower() for name, _ in query for word in _SECRET)
        if parts.username or parts.password or secret:
            words = f"put it into the environment variable {self.key_env} (--key-env names another)"
            raise R1LabError(f"the URL of the endpoint holds a key or a password: {words}")
        path = parts.path.rstrip("/")
        if not path.endswith("/chat/completions"):
            path = (path or "/v1") + "/chat/completions"
        self.url = urllib.parse.urlunsplit(parts._replace(path=path, fragment=""))
        if self.tries < 1 or self.timeout <= 0:
            raise R1LabError("an endpoint needs at least one try and a time-out above 0")

    def key(self) -> str:
        """The key, "" without one. Raises R1LabError for one that no header can carry."""
        key = os.environ.get(self.key_env, "").strip()
        if not key.isascii() or not key.isprintable():
            raise R1LabError(f"the environment variable {self.key_env} holds no key: not in ASCII")
        return key

    def hide(self, text: str) -> str:
        """A text of the server without the key."""
        key = self.key()
        return text.replace(key, "[key]") if len(key) > 3 else text

    def most(self, body: dict[str, Any]) -> float:
        """The most that a request can cost, in dollars: every byte of its prompt a token (with 64
        for a chat template), and the completion as long as allowed."""
        if self.tariff is None:
            return 0.0
        prompt = len(json.dumps(body["messages"], ensure_ascii=False).encode("utf-8", "replace"))
        limits = (body.get(name) for name in ("max_tokens", "max_completion_tokens"))
        limit = max((int(one) for one in limits if isinstance(one, int | float)), default=0)
        return self.tariff.dollars(prompt + 64, limit)

    def ask(
        self,
        body: dict[str, Any],
        *,
        failed: Callable[[Attempt], None] = lambda attempt: None,
        wait: Callable[[float], bool] = lambda seconds: bool(time.sleep(seconds)),
    ) -> Reply:
        """One completion of a request's body (without "model").

        failed(attempt) hears of every try that gave none. wait(seconds) waits, and says whether the
        run was stopped meanwhile (then `Stopped` is raised). Raises Refused and Unanswered for this
        request, and R1LabError where no request can succeed."""
        reason = ""
        for tried in range(1, self.tries + 1):
            began = self.clock()
            try:
                return self._once(body, began)
            except _Retry as again:
                reason, after = self.hide(again.reason), again.after
                cost = again.dollars if again.billed or self.tariff is None else self.most(body)
                if not again.worked:
                    cost = None if self.tariff is None else 0.0
                certain = again.billed or not again.worked
                failed(Attempt(reason, cost, certain, self.clock() - began))
            if after is not None and after > LONGEST_WAIT:
                words = f"{after:.0f} s before the next request; the same command goes on then"
                raise R1LabError(f"the endpoint asks to wait {words} ({reason})")
            if tried < self.tries:
                backoff = self.pause * 2 ** (tried - 1) * random.uniform(0.5, 1.5)
                if wait(min(60.0, backoff) if after is None else after + random.uniform(0, 0.1)):
                    raise Stopped
        raise Unanswered(f"no answer in {self.tries} tries: {reason}")

    # --- one try ---------------------------------------------------------------------------------

    def _once(self, body: dict[str, Any], began: float) -> Reply:
        key, data = self.key(), json.dumps({"model": self.model, **body}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(self.url, data=data, headers=headers, method="POST")
        try:
            with _OPENER.open(request, timeout=self.timeout) as response:
                raw = self._read(response, began)
        except urllib.error.HTTPError as error:
            with error:
                self._failed(error, began)
        except TimeoutError as error:
            raise _Retry(f"no answer in {self.timeout:g} s", worked=True) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _Retry(f"no answer in {self.timeout:g} s", worked=True) from error
            worked = not isinstance(error.reason, ConnectionRefusedError | socket.gaierror)
            raise _Retry(f"no connection: {first_line(error.reason)}", worked=worked) from error
        except (http.client.HTTPException, OSError) as error:
            reason = f"the connection broke: {type(error).__name__}"
            raise _Retry(reason, worked=True) from error
        return self._reply(raw, body, began)

    def _read(self, response: Any, began: float) -> bytes:
        """The body, whole: time and size have an end however slowly it drips."""
        blocks, size = [], 0
        while block := response.read1(1 << 16):
            blocks.append(block)
            size += len(block)
            if size > MOST_BYTES:
                raise _Retry(f"a response of more than {MOST_BYTES >> 20} MB", worked=True)
            if self.clock() - began > self.timeout:
                raise _Retry(f"no whole answer in {self.timeout:g} s", worked=True)
        if response.length:  # of Content-Length, what did not come
            raise _Retry("the connection was cut half-way", worked=True)
        return b"".join(blocks)

    def _failed(self, error: urllib.error.HTTPError, began: float) -> None:
        """Raises what an HTTP status means."""
        try:
            said = self._read(error, began)
        except (_Retry, OSError, http.client.HTTPException):
            said = b""
        status, words = error.code, self.hide(_message(said))
        line = f"HTTP {status}{': ' + words if words else ''}"
        if status in AGAIN or status >= 500:
            raise _Retry(line, after=_retry_after(error.headers.get("Retry-After")))
        if status in NOT_THIS_ONE:
            raise Refused(f"the endpoint refuses the request ({line})")
        if status in (401, 403):
            key = "is wrong or may not use this model" if self.key() else "is not set"
            raise R1LabError(f"{line}: the key in the environment variable {self.key_env} {key}")
        if status == 404:
            raise R1LabError(f"{line}: no model '{self.model}' at {self.url}")
        raise R1LabError(f"the endpoint {self.url} answers {line}")

    def _reply(self, raw: bytes, body: dict[str, Any], began: float) -> Reply:
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            raise _Retry("the response is no JSON", worked=True) from None
        usage = found.get("usage") if isinstance(found, dict) else None
        counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
        known = None not in counts
        cost = self.tariff.dollars(*counts) if known and self.tariff else None
        lost = {"dollars": cost, "billed": known, "worked": True}
        if not isinstance(found, dict) or isinstance(found.get("error"), dict | str):
            raise _Retry(f"an error in place of an answer: {_message(raw)}", **lost)
        try:
            choice = found["choices"][0]
            message, finish = choice["message"], choice.get("finish_reason")
            thought = message.get("reasoning_content")  # DeepSeek's and vLLM's name
            thought = thought or message.get("reasoning")  # OpenRouter's and newer vLLM's
            texts = (message.get("content"), thought)
        except (LookupError, TypeError, AttributeError):
            raise _Retry("a response without a completion", **lost) from None
        if not all(isinstance(text, str | None) for text in texts):
            raise _Retry("a completion that is no text", **lost)
        if texts == (None, None) and finish not in ("length", "content_filter"):
            raise _Retry("a response without a completion", **lost)
        text, thought = (self.hide(one or "") for one in texts)
        if not known:
            prompt = "".join(str(one.get("content")) for one in body["messages"])
            sizes = (len(one.encode("utf-8", "replace")) for one in (prompt, thought + text))
            counts = [-(-size // 4) for size in sizes]
            cost = self.tariff.dollars(*counts) if self.tariff else None
        return Reply(
            text, thought, str(finish or "stop")[:40], *counts, not known, cost,
            self.clock() - began, self.hide(str(found.get("model") or ""))[:200],
            self.hide(str(found.get("system_fingerprint") or ""))[:200],
        )  # fmt: skip


class _Retry(Exception):
    """A try that failed and may be repeated."""

    def __init__(self, reason: str, *, after=None, worked=False, billed=False, dollars=None):
        super().__init__(reason)
        self.reason, self.after, self.worked = reason, after, worked
        self.billed, self.dollars = billed, dollars


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def _count(usage: Any, name: str) -> int | None:
    """A number of tokens that can be one, or None."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value < 10**9 else None


def _retry_after(text: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date."""
    if not text:
        return None
    try:
        return max(0.0, float(text)) if float(text) == float(text) else None
    except ValueError:
        pass
    try:
        then = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return max(0.0, then - time.time())


def _message(raw: bytes) -> str:
    """What an error's body says, in at most 200 printable characters; "" for HTML and the like."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    found = found.get("error", found) if isinstance(found, dict) else found
    found = found.get("message", "") if isinstance(found, dict) else found
    text = " ".join(found.split()) if isinstance(found, str) else ""
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
