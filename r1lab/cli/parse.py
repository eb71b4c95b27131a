"""From the words of a command line, and a YAML file of options, to a command's options.

A command is a dataclass (`commands`): its docstring is its help, its fields are its options, and a
field that holds another dataclass is a group of options (GRPOConfig's fields are options of
`r1lab train`). tyro reads the words; what is wrong with them is an R1LabError here.
"""

import argparse
import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml
from tyro import _errors as tyro_errors  # its hook for errors is not public: the pin is exact
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec

from r1lab import ROOT
from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.basics.options import MOST_SEED, WORDS, check, element_of, option, type_of

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
METAVARS = {int: "N", float: "X", str: "NAME"}
SEEDS = {"low": 0, "high": MOST_SEED}
flag = partial(option, False)


def text(help: str, metavar: str = "NAME", **more: Any) -> Any:
    """An option that is a word, None where it is not given."""
    return option(None, help, type=str, metavar=metavar, **more)


def number(help: str, type: type = int, **more: Any) -> Any:
    """An option that is a number, None where it is not given."""
    return option(None, help, type=type, **more)


def words(help: str, metavar: str, repeat: str = "each") -> Any:
    """An option of several words; every use adds to them, with "once" by one word."""
    return option((), help, metavar=metavar, repeat=repeat)


def group(title: str) -> Any:
    """A group of options: a dataclass that `Command.groups` makes."""
    return dataclasses.field(default=None, metadata={"title": title})


@dataclass(kw_only=True)
class Command:
    """What every command has."""

    config: str | None = text(
        "a YAML file of options, or the name of a recipe; options given here win", "FILE", path=True
    )
    words: tuple = ()  # the command line, as it was typed

    def __post_init__(self) -> None:
        check(self, f"r1lab {type(self).__name__.lower()}")
        for f in dataclasses.fields(self):
            if f.metadata.get("path") and (value := getattr(self, f.name)):
                setattr(self, f.name, home(value))

    @classmethod
    def groups(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The groups of options by field, with the defaults that go with --recipe, --smoke and the
        options of a file."""
        return {}


def home(text: str) -> str:
    """`~/x` in full: shells leave it as it is in --out=~/x. R1LabError for an unknown user."""
    try:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError:
        raise R1LabError(f"{text}: there is no user {text[1:].split('/')[0]!r} here") from None


def parse(name: str, command: type[Command], words: Sequence[str]) -> Command:
    """A command with the options in `words`, and those of --config. Prints help, and exits, for
    --help; R1LabError for what cannot be right."""
    typed = tuple(words)
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", nargs="?")
    early.add_argument("--recipe", nargs="?", default=argparse.SUPPRESS)
    given = vars(early.parse_known_args(words)[0])
    path = given.pop("config")
    file = read(path) if path else {}
    given |= {"smoke": "--smoke" in words} if {"--smoke", "--no-smoke"} & {*words} else {}
    try:
        default = _with(command(**command.groups(file | given)), file, name)
    except R1LabError as error:
        raise R1LabError(f"{path}: {error}" if path else str(error)) from error
    options = {_flag(f): f for holder in _holders(default) for f in _options(holder)}
    for flag, f in options.items():
        if type_of(f) is bool and f.default is None:  # true, false or not given, as tyro takes it
            given = {flag: (flag, "True"), f"--no-{flag[2:]}": (flag, "False")}
            words = [part for word in words for part in given.get(word, (word,))]
    for flag, following in itertools.pairwise([*words, "--"]):  # tyro takes an empty list
        if flag in options and type_of(options[flag]) is tuple and following.startswith("--"):
            raise R1LabError(f"{flag} needs a value (r1lab {name} --help)")
    registry = ConstructorRegistry()
    registry.struct_rule(_structure)

    def refuse(event: tyro_errors.ParseErrorEvent) -> None:
        raise R1LabError(f"{_wrong(event, name, options)} (r1lab {name} --help)")

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
    return dataclasses.replace(found, words=typed)


# --- a file of options ---------------------------------------------------------------------------


def read(path: str) -> dict[str, Any]:
    """The options in a YAML file, by field name; a name alone is that of a recipe that ships."""
    file, shipped = Path(home(path)), RECIPES / f"{path}.yaml"
    file = shipped if shipped.exists() and not file.exists() else file
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = did_you_mean(path, sorted(one.stem for one in RECIPES.glob("*.yaml")))
        raise R1LabError(f"--config: there is no file {path}{known}") from error
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise R1LabError(f"--config: cannot read {path}: {reason}") from error
    if unusable := re.search(r"\0|[\ud800-\udfff]", _texts(data)):
        raise R1LabError(f"--config: {path} holds a character that no name has: {unusable[0]!r}")
    data = {} if data is None else data
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise R1LabError(f"--config: {path} must hold options, one a line: `steps: 40`")
    return {key.replace("-", "_"): value for key, value in data.items()}


def _texts(value: Any) -> str:
    """All texts in a YAML value."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return " ".join(map(_texts, value)) if isinstance(value, list) else str(value)


def _with(default: Command, file: dict[str, Any], name: str) -> Command:
    """The default with a file's options, each in the group that has it."""
    holders = {f.name: holder for holder in _holders(default) for f in _options(holder)}
    changes: dict[int, dict[str, Any]] = {id(holder): {} for holder in holders.values()}
    for key, value in file.items():
        if key not in holders or key == "config":
            raise R1LabError(f"r1lab {name} has no option '{key}'{_close(key, holders)}")
        if value is not None:
            f = type(holders[key]).__dataclass_fields__[key]
            changes[id(holders[key])][key] = _plain(value, f)
    groups = {
        group: dataclasses.replace(value, **changes[id(value)])
        for group, value in vars(default).items()
        if changes.get(id(value))
    }
    return dataclasses.replace(default, **groups | changes[id(default)])


def _plain(value: Any, f: dataclasses.Field) -> Any:
    """A YAML value as the option takes it: a mapping as NAME=VALUE, `1e-5` (a text to YAML) as a
    number, one word as a list of one."""
    kind, repeat = type_of(f), f.metadata.get("repeat")
    if isinstance(value, dict) and repeat:
        value = [f"{key}={one}" for key, one in value.items()]
    if kind is float and isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if kind is tuple and isinstance(value, str | int | float):
        value = [value]
    return tuple(map(str, value)) if repeat and isinstance(value, list) else value


# --- what tyro is told, and what it says ---------------------------------------------------------


def _holders(command: Command) -> list[Any]:
    """The command and its groups of options."""
    return [command, *(one for one in vars(command).values() if dataclasses.is_dataclass(one))]


def _options(holder: Any) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(holder) if "help" in f.metadata]


def _flag(f: dataclasses.Field) -> str:
    return f"--{(f.metadata.get('flag') or f.name).replace('_', '-')}"


def _annotation(f: dataclasses.Field) -> Any:
    """An option's type in tyro's words. Of the field: metavar; short, `-p`; positional; repeat,
    where each use of a list adds to it (one word a use with "once")."""
    about, kind, element = f.metadata, type_of(f), element_of(f)
    metavar, repeat = about.get("metavar") or METAVARS.get(element), about.get("repeat")
    found: Any = tuple[element, ...] if kind is tuple else kind
    if repeat:
        found = UseAppendAction[found if repeat == "once" else tuple[found, ...]]
    elif f.default is None:
        found = found | None
    if about.get("positional"):
        found = Positional[found]
    shown: dict[str, Any] = {"metavar": metavar} if kind is not bool else {}
    if kind is tuple and repeat != "once":
        shown["metavar"] = f"{metavar} [{metavar} ...]"
    if f.default is False or f.default in (None, (), ""):
        shown["help_behavior_hint"] = ""
    if about.get("flag"):  # a name that Python does not allow
        shown["name"] = about["flag"]
    if about.get("short"):
        shown["aliases"] = (about["short"],)
    return Annotated[found, arg(**shown)]


def _structure(info: Any) -> StructConstructorSpec | None:
    """tyro's rule for a dataclass of options."""
    default = info.default
    if not dataclasses.is_dataclass(info.type) or not isinstance(default, info.type):
        return None
    fields, kept, several = [], {}, []
    for f in dataclasses.fields(info.type):
        value, repeat = getattr(default, f.name), f.metadata.get("repeat")
        if dataclasses.is_dataclass(value):
            kind = OmitArgPrefixes[Annotated[type(value), arg(name=f.metadata["title"])]]
            fields.append(StructFieldSpec(f.name, kind, value, helptext=""))
        elif "help" in f.metadata:
            start = () if repeat else value
            fields.append(StructFieldSpec(f.name, _annotation(f), start, f.metadata["help"]))
            several += [f.name] * (repeat == "each")
        else:
            kept[f.name] = value

    def make(**values: Any) -> Any:
        joined = {name: tuple(one for use in values[name] for one in use) for name in several}
        return info.type(**kept | values | joined)

    return StructConstructorSpec(instantiate=make, fields=tuple(fields))


def _wrong(
    event: tyro_errors.ParseErrorEvent, name: str, options: dict[str, dataclasses.Field]
) -> str:
    """What is wrong with the words, in one line."""
    if isinstance(event, tyro_errors.UnrecognizedArgs):
        flags = [text for text in event.tokens if text.startswith("-")] or event.tokens
        return f"r1lab {name} does not know {flags[0]}{_close(flags[0], options)}"
    argument = getattr(event, "argument", None)
    if argument is None:
        return getattr(event, "message", "these words cannot be read")
    flag = next((f for f in argument.lowered.name_or_flags if f in options), "the word")
    if not isinstance(event, tyro_errors.InstantiationFailure):
        return f"{flag} needs a value"
    kind = WORDS[element_of(options[flag])] if flag in options else "another value"
    given = re.findall(r"'([^']*)'", event.message)  # int's words end in what it was given
    return f"{flag} takes {kind}" + (f", not {given[-1]!r}" if given else "")


def _close(name: str, known: Any) -> str:
    """The closest of many names; nothing where none is close."""
    words = did_you_mean(name, known)
    return words if words.startswith("; did") else ""


# --- for the commands ----------------------------------------------------------------------------


def project_folder(name: str) -> str:
    """A folder named from the project's root works from everywhere, as `--out` does."""
    return str(ROOT / name) if not Path(name).exists() and (ROOT / name).is_dir() else name


def pairs(texts: Sequence[str], flag: str, example: str) -> dict[str, str]:
    """Options NAME=VALUE, as texts by name."""
    found = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise R1LabError(f"{flag} {text}: write NAME=VALUE, for example {flag} {example}")
        found[name] = value
    return found


def literals(texts: Sequence[str], flag: str, example: str) -> dict[str, Any]:
    """Options NAME=VALUE: numbers and lists as Python writes them, else texts."""
    found: dict[str, Any] = pairs(texts, flag, example)
    for name, value in found.items():
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            found[name] = home(value)
    return found


def print_measures(summary: Mapping[str, Sequence[float]]) -> None:
    """Measures, (value, low, high) each, as a table."""
    rows = [
        (name, f"{value:.3f}", f"[{low:.3f}, {high:.3f}]" if low == low else "–")
        for name, (value, low, high) in summary.items()
    ]
    print_table(("measure", "mean", "95 % interval"), rows)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: bool = False) -> None:
    """Columns under a head: the first, or with `left` all of them, aligned left."""
    sides = [str.ljust, *[str.ljust if left else str.rjust] * (len(head) - 1)]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (side(*cell) for side, *cell in zip(sides, row, widths, strict=True))
        print("  ".join(cells).rstrip())
