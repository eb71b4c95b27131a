"""From the words of a command line, and a YAML file of options, to a command's options.

A command is a dataclass (`training`, `course`): its docstring is its help, its fields are its
options, and a field that holds another dataclass is a group of options (GRPOConfig's fields are
options of `r1lab train`). tyro reads the words; what is wrong with them is an R1LabError here.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml
from tyro import _errors as tyro_errors  # its hook for errors is not public: the pin is exact
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec

from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.basics.options import MOST_SEED, WORDS, check, element_of, option, type_of

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
METAVARS = {int: "N", float: "X", str: "NAME"}


SEEDS = {"low": 0, "high": MOST_SEED}


def text(help: str, metavar: str = "NAME", **more: Any) -> Any:
    """An option that is a word, None where it is not given."""
    return option(None, help, type=str, metavar=metavar, **more)


def number(help: str, type: type = int, **more: Any) -> Any:
    """An option that is a number, None where it is not given."""
    return option(None, help, type=type, **more)


def words(help: str, metavar: str, repeat: str = "each") -> Any:
    """An option of several words; every use adds to them, with "once" by one word."""
    return option((), help, metavar=metavar, repeat=repeat)


def flag(help: str) -> Any:
    return option(False, help)


@dataclass(kw_only=True)
class Command:
    """What every command has. `run` does its work and returns the exit code, or None for 0."""

    config: str | None = option(
        None, "a YAML file of options, or the name of a recipe; options given here win", type=str,
        metavar="FILE", path=True,
    )  # fmt: skip
    words: tuple = ()  # the command line, as it was typed

    def __post_init__(self) -> None:
        check(self, f"r1lab {type(self).__name__.lower()}")
        for f in dataclasses.fields(self):
            if f.metadata.get("path") and (value := getattr(self, f.name)):
                setattr(self, f.name, home(value))

    @classmethod
    def groups(cls, words: Sequence[str], file: dict[str, Any]) -> dict[str, Any]:
        """The groups of options by field, with the defaults that go with these words and file."""
        return {}

    def run(self) -> int | None:
        raise NotImplementedError


def home(text: str) -> str:
    """`~/x` in full: shells leave it as it is in --out=~/x."""
    return str(Path(text).expanduser()) if text.startswith("~") else text


def parse(name: str, command: type[Command], words: Sequence[str]) -> Command:
    """A command with the options in `words`, and those of --config. Prints help, and exits, for
    --help; R1LabError for what cannot be right."""
    words = [word for text in words for word in _flag(command, text)]
    path = last(words, "--config")
    file = read(path) if path else {}
    groups = command.groups(words, file)
    try:
        default = _with(command(**groups), file, name)
    except R1LabError as error:
        raise R1LabError(f"{path}: {error}" if path else str(error)) from error
    registry = ConstructorRegistry()
    registry.struct_rule(_structure)

    def refuse(event: tyro_errors.ParseErrorEvent) -> None:
        raise R1LabError(f"{_wrong(event, name, default, words)} (r1lab {name} --help)")

    with tyro_errors.on_parse_error(refuse):
        found = tyro.cli(
            command,
            prog=f"r1lab {name}",
            # tyro joins lines that begin with a letter, into ones that a terminal breaks in words
            description=textwrap.indent(inspect.cleandoc(command.__doc__), " "),
            args=words,
            default=default,
            registry=registry,
        )
    for f in _options(found):  # a list that was given replaces the file's
        if f.metadata.get("repeat") and not getattr(found, f.name):
            setattr(found, f.name, getattr(default, f.name))
    return found


def last(words: Sequence[str], flag: str) -> str | None:
    """The value that --flag was given last, before tyro has read the words; None without one."""
    found = None
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if word == flag and not after.startswith("--"):
            found = after
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def _flag(command: type[Command], text: str) -> list[str]:
    """--x and --no-x of an option that is true, false or not given, as tyro takes them."""
    for name in getattr(command, "THREE_WAY", ()):
        if text in (f"--{name}", f"--no-{name}"):
            return [f"--{name}", str(text == f"--{name}")]
    return [text]


# --- a file of options ---------------------------------------------------------------------------


def read(path: str) -> dict[str, Any]:
    """The options in a YAML file, by field name; a name alone is that of a recipe that ships."""
    shipped = RECIPES / f"{path}.yaml"
    file = shipped if shipped.exists() and not Path(home(path)).exists() else Path(home(path))
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = did_you_mean(path, sorted(one.stem for one in RECIPES.glob("*.yaml")))
        raise R1LabError(f"--config: there is no file {path}{known}") from error
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise R1LabError(f"--config: cannot read {path}: {reason}") from error
    if not isinstance(data, dict | None) or not all(isinstance(key, str) for key in data or {}):
        raise R1LabError(f"--config: {path} must hold options, one a line: `steps: 40`")
    return {key.replace("-", "_"): value for key, value in (data or {}).items()}


def _with(default: Command, file: dict[str, Any], name: str) -> Command:
    """The default with a file's options, each in the group that has it."""
    holders = [default, *(g for g in vars(default).values() if dataclasses.is_dataclass(g))]
    known = {f.name: (holder, f) for holder in holders for f in _options(holder)}
    changes: dict[int, dict[str, Any]] = {id(holder): {} for holder in holders}
    for key, value in file.items():
        if key not in known or key == "config":
            raise R1LabError(f"r1lab {name} has no option '{key}'{_close(key, known)}")
        holder, f = known[key]
        if value is not None:
            changes[id(holder)][key] = _plain(value, f)
    for group, value in list(vars(default).items()):
        if changes.get(id(value)):
            setattr(default, group, dataclasses.replace(value, **changes[id(value)]))
    return dataclasses.replace(default, **changes[id(default)])


def _plain(value: Any, f: dataclasses.Field) -> Any:
    """A YAML value as the option takes it: a mapping as NAME=VALUE, `1e-5` (a text to YAML) as a
    number, one word as a list of one."""
    kind = type_of(f)
    if isinstance(value, dict) and f.metadata.get("repeat"):
        value = [f"{key}={one}" for key, one in value.items()]
    if kind is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    if kind is tuple and isinstance(value, str | int | float):
        value = [value]
    if f.metadata.get("repeat"):
        return tuple(str(one) for one in value) if isinstance(value, list) else value
    return value


# --- what tyro is told, and what it says ---------------------------------------------------------


def _options(holder: Any) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(holder) if "help" in f.metadata]


def annotation(f: dataclasses.Field) -> Any:
    """An option's type in tyro's words. Of the field: metavar; short, `-p`; positional; repeat,
    where each use of a list adds to it (one word a use with "once")."""
    about, kind = f.metadata, type_of(f)
    element = element_of(f)
    metavar = about.get("metavar") or METAVARS.get(element)
    found: Any = kind
    if kind is tuple:
        found = tuple[element, ...]
    if about.get("repeat"):
        found = UseAppendAction[found if about["repeat"] == "once" else tuple[found, ...]]
    elif f.default is None:
        found = found | None
    if about.get("positional"):
        found = Positional[found]
    shown: dict[str, Any] = {"metavar": metavar} if kind is not bool else {}
    if kind is tuple and about.get("repeat") != "once":
        shown["metavar"] = f"{metavar} [{metavar} ...]"
    if f.default is False or f.default in (None, (), ""):
        shown["help_behavior_hint"] = ""
    if about.get("short"):
        shown["aliases"] = (about["short"],)
    return Annotated[found, arg(**shown)]


def _structure(info: Any) -> StructConstructorSpec | None:
    """tyro's rule for a dataclass of options."""
    default = info.default
    if not dataclasses.is_dataclass(info.type) or not isinstance(default, info.type):
        return None
    fields, kept = [], {}
    for f in dataclasses.fields(info.type):
        value = getattr(default, f.name)
        if dataclasses.is_dataclass(value):
            title = info.type.TITLES[f.name]
            kind = OmitArgPrefixes[Annotated[type(value), arg(name=title)]]
            fields.append(StructFieldSpec(f.name, kind, value, helptext=""))
        elif "help" in f.metadata:
            start = () if f.metadata.get("repeat") else value
            fields.append(StructFieldSpec(f.name, annotation(f), start, f.metadata["help"]))
        else:
            kept[f.name] = value

    def make(**values: Any) -> Any:
        for f in dataclasses.fields(info.type):
            if f.metadata.get("repeat") not in (None, "once"):
                values[f.name] = tuple(one for use in values[f.name] for one in use)
        return info.type(**kept | values)

    return StructConstructorSpec(instantiate=make, fields=tuple(fields))


def _wrong(
    event: tyro_errors.ParseErrorEvent, name: str, default: Command, words: Sequence[str]
) -> str:
    """What is wrong with the words, in one line."""
    holders = [default, *(g for g in vars(default).values() if dataclasses.is_dataclass(g))]
    known = {f"--{f.name.replace('_', '-')}": f for holder in holders for f in _options(holder)}
    if isinstance(event, tyro_errors.UnrecognizedArgs):
        flags = [text for text in event.tokens if text.startswith("-")] or event.tokens
        return f"r1lab {name} does not know {flags[0]}{_close(flags[0], known)}"
    argument = getattr(event, "argument", None)
    if argument is None:
        return getattr(event, "message", "these words cannot be read")
    flag = next((f for f in argument.lowered.name_or_flags if f in known), "the word")
    if not isinstance(event, tyro_errors.InstantiationFailure):
        return f"{flag} needs a value"
    kind = WORDS[element_of(known[flag])] if flag in known else "another value"
    given = re.findall(r"'([^']*)'", event.message)  # int's words end in what it was given
    return f"{flag} takes {kind}, not {given[-1]!r}" if given else f"{flag} takes {kind}"


def _close(name: str, known: Any) -> str:
    """The closest of many names; nothing where none is close."""
    words = did_you_mean(name, known)
    return words if words.startswith("; did") else ""


# --- for the commands -----------------------------------------------------------------------------


def pairs(texts: Sequence[str], flag: str, example: str) -> dict[str, str]:
    """Options NAME=VALUE, as texts by name."""
    found = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise R1LabError(f"{flag} {text}: write NAME=VALUE, for example {flag} {example}")
        found[name] = value
    return found


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], left=False) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0])]
        pad = str.ljust if left else str.rjust
        cells += [pad(cell, width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
