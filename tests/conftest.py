"""Fixtures shared by the tests."""

from __future__ import annotations

import copy
import gc
import os
import re
from html.parser import HTMLParser

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if gc.isenabled():
    gc.disable()  # until all is imported: pytest_collection_finish

import pytest
import warm

import r1lab.course  # noqa: F401  before the first nbformat

# torch and what needs it is imported in the fixtures: xdist's controller runs no test.


def pytest_addoption(parser):
    parser.addoption("--cuda", action="store_true", help="run on a GPU what needs one")


def pytest_configure(config):
    """The tests are the same on every machine. What needs a GPU is asked for by --cuda, file by
    file: benchmarks/README.md has the commands."""
    if not config.getoption("--cuda"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if config.getoption("numprocesses", None):  # workers share the cores: one thread each
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)  # .venv-engines has no xdist
def pytest_xdist_auto_num_workers(config):
    """One more than there are cores: of each minute, tests wait a quarter for processes, clocks and
    time limits."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config, specs):
    """The workers themselves have what takes long to import."""
    for spec in specs:
        spec.python = warm.python()


# The files that take longest, the longest first.
LONG = (
    "notebooks", "browser", "memory", "runner", "trl_backend", "workspace", "hosted",
    "scienceagent", "trl_pipeline", "pipeline", "graded", "gym", "sandbox_arena", "grpo", "cli",
    "packaging", "successors", "browser_watch", "hub", "evals", "bench", "code", "sandbox",
    "grpo_after", "classroom", "book", "diagnose", "answers", "decontamination",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Long files first: xdist deals files to its workers in this order, and a long one that begins
    last keeps one core busy while the other has nothing to do."""
    place = {f"test_{name}": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


def pytest_collection_finish(session):
    """A million objects are there to stay: to look for garbage among them takes a second each time
    (and a quarter of the time in which they come)."""
    gc.freeze()
    gc.set_threshold(20_000)  # by default 700, which one file read as JSON makes
    gc.enable()


@pytest.fixture
def warm_processes():
    """The Pythons that a test starts have imported torch, transformers and TRL already."""
    with warm.processes():
        yield


@pytest.fixture(scope="session")
def tokenizer():
    from r1lab.world.tokenizer import build_tokenizer

    return build_tokenizer()


@pytest.fixture(scope="session")
def adding():
    """adding(tokenizer, "user $A </s>") -> a copy that puts these tokens around each text."""
    from tokenizers.processors import TemplateProcessing

    def copied(tokenizer, single: str):
        other = copy.deepcopy(tokenizer)
        names = [name for name in single.split() if name != "$A"]
        tokens = [(name, other.convert_tokens_to_ids(name)) for name in names]
        around = TemplateProcessing(single=single, special_tokens=tokens)
        other.backend_tokenizer.post_processor = around
        return other

    return copied


@pytest.fixture
def random_model(tokenizer):
    """(model, tokenizer): a very small random Llama that speaks the tiny world's tokens."""
    import torch

    from r1lab.models.load import tiny_llama

    torch.manual_seed(0)
    return tiny_llama(len(tokenizer), width=32, layers=2, heads=2, ffn=64), tokenizer


@pytest.fixture
def random_folder(random_model, tmp_path):
    """The folder of that model, as a string."""
    model, tokenizer = random_model
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


@pytest.fixture
def model(random_model):
    """That model without its tokenizer."""
    return random_model[0]


@pytest.fixture
def one_thread():
    """The same bits need the same number of threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def base_model():
    """(model, tokenizer): the embedded base model. Read only: copy it before training."""
    from r1lab.models.load import load

    return load("tiny")


class _Resources(HTMLParser):
    """Collects what a browser would fetch to show a page; links to follow are no such thing."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []
        self.style = False

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.style = tag == "style"
        self.found += [given[name] for name in ("src", "poster", "data") if given.get(name)]
        if tag == "link" and given.get("href"):
            self.found.append(given["href"])
        self.css(given.get("style") or "")

    def handle_endtag(self, tag):
        self.style = False

    def handle_data(self, data):
        if self.style:
            self.css(data)

    def css(self, text):
        names = re.findall(r"""@import\s+["']([^"']+)|url\(\s*["']?([^"')]+)""", text)
        self.found += [first or second for first, second in names]


@pytest.fixture(scope="session")
def resources():
    """resources(html) -> the addresses that a browser fetches to show the page."""

    def find(page: str) -> list[str]:
        parser = _Resources()
        parser.feed(page)
        return parser.found

    return find
