"""Plugins by name: built-in, in a file (`mine.py:Name`), or of an installed package (entry points
r1lab.advantages, r1lab.rewards, r1lab.tasks, r1lab.templates).

A file is read when a configuration or a task names it; later edits do not change the run. Its
content is part of a run's identity (`sign`), so a run does not resume a checkpoint of other code.
"""

import hashlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from r1lab.basics.errors import R1LabError, did_you_mean, shortage

PREFIX = "r1lab_file_"  # of the modules made from files
HERE = str(Path(__file__).parents[1])
_codes: dict[str, str] = {}  # digest of the source, by the module's name


def find(kind: str, name: str, known: Mapping[str, Any], *, reread: bool = False) -> Any:
    """The "advantage", "reward", "task" or "template" called `name`: one of `known`, `FILE.py:NAME`
    (relative to the working directory), or an entry point of the group r1lab.<kind>s. reread: read
    a file again if it has changed. Raises R1LabError."""
    if name in known:
        return known[name]
    file, colon, attribute = str(name).rpartition(":")
    if colon and file.endswith(".py"):
        module = _load(Path(file).expanduser(), reread)
        if not attribute or not hasattr(module, attribute):
            names = [n for n, v in vars(module).items() if callable(v) or isinstance(v, dict | str)]
            public = [n for n in names if not n.startswith("_") and n != "annotations"]
            closest = did_you_mean(attribute, public)
            raise R1LabError(f"{kind} {name}: {file} has no {attribute!r}{closest}")
        return getattr(module, attribute)
    points = offered(kind)
    for point in points.select(name=str(name)):
        with blame(f"{kind} {name} of the package {point.dist.name}"):
            thing = point.load()
        _codes[point.module] = _digest(Path(sys.modules[point.module].__file__).read_bytes())
        return thing
    if str(name).endswith(".py"):
        raise R1LabError(f"{kind} {name}: say which, as in {name}:NAME")
    every = [*known, *(point.name for point in points)]
    closest = did_you_mean(name, every)
    words = f"unknown {kind} {str(name)!r}{closest if 'did you mean' in closest else ''}"
    raise R1LabError(f"{words}; take one of {', '.join(every)}, or your own as FILE.py:NAME")


@cache
def offered(kind: str) -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=f"r1lab.{kind}s")


def names(kind: str, known: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of `known`, then those of installed packages."""
    return (*known, *(point.name for point in offered(kind) if point.name not in known))


def code_of(thing: Any) -> str | None:
    """A digest of the source of an object or class, and of its `members`; None for what is built in
    or from a notebook."""
    things = [thing, *getattr(thing, "members", ())]
    codes = [_codes.get(one.__module__) for one in things]
    return " ".join(code for code in codes if code) or None


def sign(kind: str, name: str, known: Mapping[str, Any]) -> str:
    """The name in the identity of a run, with the digest of code that is not built in."""
    if name in known:
        return name
    find(kind, name, known)  # so that it is loaded
    file, _, attribute = name.rpartition(":")
    if file.endswith(".py"):
        return f"{Path(file).name}:{attribute} (code {_codes[_module_name(Path(file))]})"
    (point, *_) = offered(kind).select(name=name)
    return f"{name} (code {_codes[point.module]})"


@contextmanager
def blame(whose: str, *but: type[Exception]):
    """Runs a plugin's code: its exceptions, `but` these, become an R1LabError with its line."""
    try:
        yield
    except (R1LabError, *but):
        raise
    except (Exception, SystemExit) as error:
        if shortage(f"{type(error).__name__}: {error}"):  # of memory or disk
            raise
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [f for f in frames if "site-packages" not in f.filename]
        theirs = [f for f in theirs if not f.filename.startswith(HERE)]
        where = f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""
        if isinstance(error, SyntaxError):
            where = f" (line {error.lineno})"
        text = " ".join(str(getattr(error, "msg", error)).split())[:300]
        raise R1LabError(f"{whose}: {type(error).__name__}: {text}{where}") from error


def _module_name(path: Path) -> str:
    return PREFIX + path.stem + "_" + _digest(str(path.expanduser().resolve()).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _load(path: Path, reread: bool) -> ModuleType:
    """The module of a file: executed once, and again for `reread` if its content has changed."""
    name = _module_name(path)
    before = sys.modules.get(name)
    if before and not reread:
        return before
    try:
        source = path.read_bytes()
    except OSError as error:
        raise R1LabError(f"{path} cannot be read: {error.strerror} (in {Path.cwd()})") from None
    if before and _codes[name] == _digest(source):
        return before
    module = ModuleType(name)
    module.__file__ = str(path.resolve())
    sys.modules[name] = module  # for dataclasses and pickle
    try:
        with blame(f"{path} cannot be loaded"):
            exec(compile(source, module.__file__, "exec"), vars(module))
    except BaseException:
        sys.modules.pop(name)
        if before:
            sys.modules[name] = before
        raise
    _codes[name] = _digest(source)
    return module
