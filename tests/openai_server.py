"""A real local server of OpenAI's chat/completions protocol, which can be told to fail.

`serve(answer, faults)` starts it on a free port. answer(body) -> text, a dict with a whole message,
or None. faults: a list of names, each used up by one request in order, or a function
(number of the request, body) -> name or None. What each name does is in `FAULTS`.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, answer, faults=(), delay=0.0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.delay, self.lock = answer, delay, threading.Lock()
        self.faults = faults if callable(faults) else list(faults)
        self.bodies: list[dict] = []  # every request, in order of arrival
        self.headers: list[dict] = []
        self.answered: list[dict] = []  # the bodies that got a whole completion
        self.billed = 0.0  # dollars at 1 / 2 a million, of what was answered
        self.bills = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        pass  # a client that went away

    def fault(self, number: int, body: dict) -> str | None:
        if callable(self.faults):
            return self.faults(number, body)
        return self.faults.pop(0) if self.faults else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            fault = self.server.fault(len(self.server.bodies), body)
        if self.server.delay:
            time.sleep(self.server.delay)
        FAULTS[fault](self, body)

    def send(self, status: int, data: bytes, headers=(), length: int | None = None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def completion(self, body: dict, **changes) -> bytes:
        message = self.server.answer(body)
        message = message if isinstance(message, dict) else {"content": message}
        finish = message.pop("finish_reason", "stop")
        prompt = sum(len(one["content"].split()) for one in body["messages"])
        written = message.get("content") or ""
        usage = {"prompt_tokens": prompt, "completion_tokens": len(written.split())}
        found = {
            "id": "x", "object": "chat.completion", "model": f"{body['model']}-served",
            "system_fingerprint": "fp_1", "usage": usage,
            "choices": [{"index": 0, "finish_reason": finish,
                         "message": {"role": "assistant", **message}}],
        }  # fmt: skip
        return json.dumps(found | changes).encode()

    def bill(self, body: dict, data: bytes):
        usage = json.loads(data).get("usage") or {}
        cost = (usage.get("prompt_tokens", 0) + 2 * usage.get("completion_tokens", 0)) / 1e6
        with self.server.lock:
            self.server.billed += cost
            self.server.bills += 1
            self.server.answered.append(body)

    def ok(self, body, **changes):
        data = self.completion(body, **changes)
        self.bill(body, data)
        self.send(200, data)


def error(status, headers=(), text="told to fail"):
    body = json.dumps({"error": {"message": text, "type": "t"}}).encode()
    return lambda handler, _: handler.send(status, body, headers)


def cut(handler, body):
    data = handler.completion(body)
    handler.send(200, data[: len(data) // 2], length=len(data))
    handler.close_connection = True
    handler.connection.close()


def hang_up(handler, body):
    handler.close_connection = True
    handler.connection.close()


def drip(handler, body):
    data = handler.completion(body)
    handler.send(200, b"", length=len(data))
    for byte in data:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


def echo_key(handler, body):
    handler.send(401, json.dumps({"error": {"message": "bad key " + handler.headers.get(
        "Authorization", "none")}}).encode())  # fmt: skip


FAULTS = {
    None: lambda handler, body: handler.ok(body),
    "429": error(429, [("Retry-After", "0.2")]),
    "429 date": error(429, [("Retry-After", "Thu, 01 Jan 2015 00:00:00 GMT")]),
    "429 hours": error(429, [("Retry-After", "7200")]),
    "429 bare": error(429),
    "500": error(500), "502": error(502), "503": error(503, [("Retry-After", "soon")]),
    "400": error(400, text="max_tokens is too large"), "404": error(404), "402": error(402),
    "401": echo_key,
    "redirect": error(307, [("Location", "http://127.0.0.1:9/elsewhere")]),
    "slow": lambda handler, body: (time.sleep(1.5), hang_up(handler, body)),
    "drip": drip,
    "garbage": lambda handler, _: handler.send(200, b"\xff\x00 <html>{{{"),
    "empty": lambda handler, _: handler.send(200, b""),
    "nested": lambda handler, _: handler.send(200, b"[" * 200_000),
    "list": lambda handler, _: handler.send(200, b"[1, 2]"),
    "no choices": lambda handler, body: handler.ok(body, choices=[]),
    "error in 200": lambda handler, _: handler.send(200, b'{"error": {"message": "overloaded"}}'),
    "not text": lambda handler, body: handler.ok(
        body, choices=[{"message": {"content": [1]}, "finish_reason": "stop"}]),
    "no usage": lambda handler, body: handler.ok(body, usage=None),
    "hostile usage": lambda handler, body: handler.ok(
        body, usage={"prompt_tokens": -5, "completion_tokens": 1e300}),
    "cut": cut,
    "hang up": hang_up,
}  # fmt: skip


@contextmanager
def serve(answer=lambda body: "hello", faults=(), delay=0.0):
    server = Server(answer, faults, delay)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
