"""The client of chat/completions against a real server that fails in every way it may."""

from __future__ import annotations

import socket
import time

import pytest
from openai_server import serve

from r1lab.basics.errors import R1LabError
from r1lab.evals.endpoint import Endpoint, Refused, Stopped, Unanswered
from r1lab.evals.tariff import TARIFFS, Tariff, tariff_of

BODY = {"messages": [{"role": "user", "content": "one two three"}], "max_tokens": 50}


def endpoint(server, **changes):
    how = {"tariff": Tariff(1, 2), "pause": 0.01, "timeout": 10, "tries": 3}
    return Endpoint(server.url, "m", **how | changes)


def test_a_completion_with_its_tokens_and_dollars():
    with serve(lambda body: {"content": "a b c d", "reasoning_content": "hm"}) as server:
        reply = endpoint(server).ask(BODY | {"seed": 7})
    assert (reply.text, reply.thought, reply.finish) == ("a b c d", "hm", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, 4) and not reply.estimated
    assert reply.dollars == pytest.approx((3 + 2 * 4) / 1e6)
    assert (reply.model, reply.fingerprint) == ("m-served", "fp_1")
    assert server.bodies == [BODY | {"seed": 7, "model": "m"}]
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("fault", [
    "429", "429 date", "429 bare", "500", "502", "503", "garbage", "empty", "nested", "list",
    "no choices", "error in 200", "not text", "cut", "hang up",
])  # fmt: skip
def test_what_may_pass_is_tried_again(fault):
    attempts = []
    with serve(faults=[fault, fault]) as server:
        reply = endpoint(server).ask(BODY, failed=attempts.append)
        assert reply.text == "hello" and len(server.bodies) == 3
    assert len(attempts) == 2 and all(one.reason and one.reason.isprintable() for one in attempts)
    status = fault[:3].isdigit()
    billed = fault in ("no choices", "not text")  # a body with usage: a bill, and a certain one
    for one in attempts:
        assert one.certain == (status or billed)
        assert (one.dollars == 0) == status
        if billed:
            assert one.dollars == pytest.approx(server.billed / server.bills)
        elif not status:  # at most: every byte a token, and 50 of the completion
            assert one.dollars == endpoint(server).most(BODY) > 100 / 1e6


@pytest.mark.parametrize("fault", ["slow", "drip"])
def test_a_try_has_an_end(fault):
    attempts, began = [], time.monotonic()
    with serve(faults=[fault]) as server:
        assert endpoint(server, timeout=0.4).ask(BODY, failed=attempts.append).text == "hello"
        assert time.monotonic() - began < 1.4
    assert [one.certain for one in attempts] == [False]


def test_retry_after_is_kept():
    waits = []
    with serve(faults=["429", "500", "500"]) as server:
        endpoint(server, tries=4).ask(BODY, wait=lambda s: waits.append(s))
    assert 0.2 <= waits[0] < 0.35 and waits[1] < waits[2] / 1.3 * 4  # then it doubles, with jitter
    assert waits[1] < 0.04


def test_a_server_that_asks_for_hours_ends_the_run_in_one_line():
    with serve(faults=["429 hours"]) as server, pytest.raises(R1LabError, match="7200 s"):
        endpoint(server).ask(BODY)


def test_all_tries_fail():
    attempts = []
    with serve(faults=["500"] * 9) as server, pytest.raises(Unanswered, match="3 tries.*HTTP 500"):
        endpoint(server).ask(BODY, failed=attempts.append)
    assert len(attempts) == 3


def test_a_stop_ends_the_wait():
    with serve(faults=["500"] * 9) as server, pytest.raises(Stopped):
        endpoint(server).ask(BODY, wait=lambda seconds: True)


def test_nobody_listens():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{one.getsockname()[1]}"
    with pytest.raises(Unanswered, match="no connection"):
        Endpoint(url, "m", tries=2, pause=0.01).ask(BODY)


@pytest.mark.parametrize("fault, kind, words", [
    ("400", Refused, "max_tokens is too large"),
    ("404", R1LabError, "no model 'm'"),
    ("402", R1LabError, "HTTP 402"),
    ("redirect", R1LabError, "HTTP 307"),
])  # fmt: skip
def test_what_cannot_pass_is_not_tried_again(fault, kind, words):
    with serve(faults=[fault] * 3) as server:
        with pytest.raises(kind, match=words):
            endpoint(server).ask(BODY)
        assert len(server.bodies) == 1


def test_the_key_stays_in_the_environment(monkeypatch):
    key = "sk-very-secret-1234"
    monkeypatch.setenv("MINE", key)
    with serve(lambda body: f"your key is {key}", faults=["401"]) as server:
        one = endpoint(server, key_env="MINE")
        with pytest.raises(R1LabError, match="MINE is wrong") as refused:
            one.ask(BODY)
        assert key not in str(refused.value) and key not in repr(one)
        assert one.ask(BODY).text == "your key is [key]"
        assert server.headers[0]["Authorization"] == f"Bearer {key}"
    monkeypatch.delenv("MINE")
    with serve(faults=["401"]) as server, pytest.raises(R1LabError, match="MINE is not set"):
        endpoint(server, key_env="MINE").ask(BODY)


@pytest.mark.parametrize("url", [
    "ftp://x/v1", "http://", "http://user:pw@host/v1", "https://host/v1?api_key=abc", "file:///etc",
])  # fmt: skip
def test_urls_that_cannot_be_right_or_hold_a_secret(url):
    with pytest.raises(R1LabError) as refused:
        Endpoint(url, "m")
    assert "abc" not in str(refused.value) and "pw" not in str(refused.value)


def test_urls_in_all_spellings():
    for given in ("localhost:8000", "http://localhost:8000/v1/", "http://localhost:8000"):
        assert Endpoint(given, "m").url == "http://localhost:8000/v1/chat/completions"
    azure = "https://x.com/a/chat/completions?api-version=1"
    assert Endpoint(azure, "m").url == azure
    assert Endpoint("https://api.deepseek.com/beta", "m").url.endswith("/beta/chat/completions")


def test_without_usage_tokens_are_estimated_and_hostile_usage_is_no_usage():
    with serve(lambda body: "x" * 40, faults=["no usage", "hostile usage"]) as server:
        for _ in range(2):
            reply = endpoint(server).ask(BODY)
            assert reply.estimated and reply.completion_tokens == 10 and reply.prompt_tokens == 4
            assert reply.dollars == pytest.approx((4 + 2 * 10) / 1e6)


def test_a_thought_that_used_up_the_limit_is_a_completion():
    with serve(lambda body: {"content": None, "finish_reason": "length"}) as server:
        reply = endpoint(server).ask(BODY)
    assert reply.text == "" and reply.finish == "length"


def test_a_completion_of_any_characters():
    text = "\ud800 \u2028 \x1b[2J \x00"
    with serve(lambda body: text) as server:
        assert endpoint(server).ask(BODY).text == text


# --- tariffs


def test_tariffs_by_name_and_by_numbers():
    assert tariff_of("0.55/2.19") == Tariff(0.55, 2.19)
    assert tariff_of("deepseek-r1").output == 2.19 and TARIFFS["deepseek-r1"].source
    assert tariff_of("$3/$7").dollars(1e6, 2e6) == 17
    for wrong in ("3", "a/b", "1/2/3", "-1/2", "nan/1", "deepsek-r1"):
        with pytest.raises(R1LabError):
            tariff_of(wrong)
    with pytest.raises(R1LabError, match="did you mean 'deepseek-r1'"):
        tariff_of("deepsek-r1")
    assert all(one.source and one.date for one in TARIFFS.values())
