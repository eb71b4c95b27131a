"""Profiles: the same lesson on a laptop, a GPU or a cluster, without one `if` in a notebook.

A notebook's cell tagged `parameters` holds the values of the `cpu` profile, each with a type and
a comment:

    seed: int = 0               # every random choice of this lesson
    out_dir: str = "runs/cpu"   # where it leaves what it makes
    steps: int = 40             # RL steps

`notebooks/profiles.yaml` says what the other profiles change, and which notebooks they leave out:

    profiles:
      smoke:
        05_r1_zero: {steps: 2}
      cpu: {}
    skip:
      smoke: {06_full_gpu: "needs an NVIDIA GPU"}

Papermill only warns about a parameter that no notebook has. Here each override is held against
the parameters cell, by name and by type, and what cannot reach its notebook is an error.
"""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from r1lab import PROJECT, ROOT
from r1lab.basics.errors import R1LabError, did_you_mean

if TYPE_CHECKING:  # 1.4 s to import, and every lesson imports this module
    import nbformat

NAMES = ("smoke", "cpu", "gpu", "cluster")
NOTEBOOKS = next(f for f in (ROOT / "notebooks", PROJECT / "notebooks") if f.is_dir())
RESERVED = ("seed", "out_dir")  # every notebook has them; the runner sets them


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: `name: annotation = default  # help`."""

    name: str
    annotation: str  # source text; "" when the line has no type
    default: Any
    help: str = ""


@dataclass(frozen=True)
class Profiles:
    """What `profiles.yaml` says: overrides by profile and notebook, and what is left out."""

    path: Path
    overrides: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    skip: dict[str, dict[str, str]] = field(default_factory=dict)


def default_profile() -> str:
    """The profile used when none is named: the environment variable R1LAB_PROFILE, or "cpu"."""
    return check_profile(os.environ.get("R1LAB_PROFILE") or "cpu")


def check_profile(name: str) -> str:
    """`name` itself when it is a profile; R1LabError otherwise."""
    if name not in NAMES:
        raise R1LabError(f"there is no profile '{name}'{did_you_mean(name, NAMES)}")
    return name


# --------------------------------------------------------------------------------------------------
# Notebooks and their parameters cells


def notebooks(folder: str | os.PathLike = NOTEBOOKS) -> list[Path]:
    """The lessons in order: every `NN_name.ipynb` in `folder`."""
    return sorted(p for p in Path(folder).glob("*.ipynb") if re.match(r"\d\d_", p.name))


def select(only: list[str] | None, folder: str | os.PathLike = NOTEBOOKS) -> list[Path]:
    """The lessons that `only` names, by number ("05") or name ("05_r1_zero"); None: all of them."""
    paths = notebooks(folder)
    if not paths:
        raise R1LabError(f"there are no notebooks in {Path(folder)}")
    if not only:
        return paths
    chosen = []
    for wanted in only:
        name = Path(wanted).stem
        hits = [p for p in paths if p.stem == name or p.stem.split("_")[0] == name.zfill(2)]
        if not hits:
            close = did_you_mean(name, [p.stem for p in paths])
            raise R1LabError(f"there is no notebook '{wanted}'{close}")
        chosen += hits
    return [p for p in paths if p in chosen]


def parameters(notebook: str | os.PathLike | nbformat.NotebookNode) -> dict[str, Parameter]:
    """What the cell tagged `parameters` offers: name -> Parameter, in order.

    Raises R1LabError when the file is no notebook, has no such cell (or two of them), or when that
    cell holds anything but `name: type = literal`.
    """
    if isinstance(notebook, dict):
        name, nb = "the notebook", notebook
    else:
        name, nb = Path(notebook).stem, read_notebook(notebook)
    cells = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise R1LabError(f"{name} needs one cell tagged 'parameters' and has {len(cells)}")
    source = cells[0].source
    try:
        body = ast.parse(source).body
        comments = _comments(source)
    except (SyntaxError, tokenize.TokenError) as error:
        raise R1LabError(f"the parameters cell of {name} is no Python: {error}") from error
    found: dict[str, Parameter] = {}
    for node in body:
        if isinstance(node, ast.Assign):
            target = node.targets[0]  # without a type: found here, refused when it is overridden
        else:
            target = node.target if isinstance(node, ast.AnnAssign) else None
        if not isinstance(target, ast.Name) or node.value is None:
            raise R1LabError(
                f"line {node.lineno} of the parameters cell of {name} is not `name: type = value`; "
                "compute derived values in a later cell, or overrides would not reach them"
            )
        try:
            default = ast.literal_eval(node.value)
        except ValueError as error:
            words = f"the parameter '{target.id}' of {name} must be a literal value"
            raise R1LabError(words) from error
        annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
        comment = comments.get(node.end_lineno, "")
        found[target.id] = Parameter(target.id, annotation, default, comment)
    return found


def read_notebook(path: str | os.PathLike) -> nbformat.NotebookNode:
    """The notebook at `path`, in nbformat 4; R1LabError when it cannot be read."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError as error:
        raise R1LabError(f"there is no notebook {path}") from error
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise R1LabError(f"{path} is not a Jupyter notebook ({reason})") from error


def _comments(source: str) -> dict[int, str]:
    """Line number -> the comment at its end."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


# --------------------------------------------------------------------------------------------------
# Types


def fits(value: Any, annotation: str | ast.expr) -> bool:
    """Whether `value` has the type that `annotation` names.

    int, float (an int will do), str, bool (never taken for an int), list, list[...], dict, None
    and unions with `|`. Raises R1LabError for any other annotation.
    """
    node = ast.parse(annotation, mode="eval").body if isinstance(annotation, str) else annotation
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return fits(value, node.left) or fits(value, node.right)
    if isinstance(node, ast.Constant) and node.value is None:
        return value is None
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "list":
        return isinstance(value, list) and all(fits(item, node.slice) for item in value)
    kinds = {"int": int, "float": (int, float), "str": str, "bool": bool}
    kind = (kinds | {"list": list, "dict": dict}).get(ast.unparse(node))
    if kind is None:
        raise R1LabError(
            f"the type '{ast.unparse(node)}' is none that a parameters cell may use "
            "(int, float, str, bool, list, list[int], dict, and unions such as int | None)"
        )
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def check_value(parameter: Parameter, value: Any, where: str) -> Any:
    """`value` if it fits the parameter's type, else R1LabError that says what was wanted.

    An int given for a float becomes a float, so that papermill writes `1.0` into the notebook.
    """
    if not parameter.annotation:
        raise R1LabError(f"{where}: the parameter '{parameter.name}' has no type; write one")
    if not fits(value, parameter.annotation):
        given = f"{value!r} ({type(value).__name__})"
        raise R1LabError(f"{where}: '{parameter.name}' takes {parameter.annotation}, not {given}")
    return float(value) if parameter.annotation == "float" else value


def parse_text(parameter: Parameter, text: str, where: str) -> Any:
    """A value typed on the command line, read as the parameter's type: "10", "1e-3", "true"."""
    if parameter.annotation == "str":
        return text
    words = {"true": True, "false": False, "none": None, "null": None}
    try:
        value = words[text.lower()] if text.lower() in words else ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = text if len(text) < 80 else text[:80] + "..."
    return check_value(parameter, value, where)


# --------------------------------------------------------------------------------------------------
# profiles.yaml


def load(path: str | os.PathLike | None = None) -> Profiles:
    """Read `profiles.yaml` (default: the project's own) and check its shape.

    Raises R1LabError for unknown profiles or sections and anything not of the documented form.
    """
    path = NOTEBOOKS / "profiles.yaml" if path is None else Path(path)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except OSError as error:
        raise R1LabError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise R1LabError(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(data, dict) or set(data) - {"profiles", "skip"}:
        raise R1LabError(f"{path} may hold the sections 'profiles' and 'skip', nothing else")
    found: dict[str, dict[str, dict]] = {"profiles": {}, "skip": {}}
    for section, by_profile in found.items():
        for profile, entries in _mapping(data.get(section), path, section).items():
            if profile not in NAMES:
                close = did_you_mean(profile, NAMES)
                raise R1LabError(f"{path}: there is no profile '{profile}'{close}")
            by_profile[profile] = entries = _mapping(entries, path, f"{section}/{profile}")
            for name, value in entries.items():
                where = f"{section}/{profile}/{name}"
                if section == "profiles":
                    entries[name] = _mapping(value, path, where)
                elif not isinstance(value, str) or not value.strip():
                    raise R1LabError(f"{path}: {where} needs a reason in words")
    return Profiles(path, found["profiles"], found["skip"])


def resolve(profile: str, notebook: str | os.PathLike, profiles: Profiles | None = None) -> dict:
    """The parameters that `profile` changes in `notebook` (a path, or a lesson's name), checked.

    Raises R1LabError when one of them is not in the notebook's parameters cell or has another
    type. Whether the profile leaves the notebook out is `skip_reason`'s to say.
    """
    profiles = load() if profiles is None else profiles
    path = Path(notebook)
    if path.suffix != ".ipynb":
        (path,) = select([str(notebook)], profiles.path.parent)
    overrides = profiles.overrides.get(check_profile(profile), {}).get(path.stem, {})
    if not overrides:
        return {}
    where = f"{profiles.path.name}, {profile}, {path.stem}"
    offered, checked = parameters(path), {}
    for name, value in overrides.items():
        if name not in offered:
            close = did_you_mean(name, offered)
            raise R1LabError(f"{where}: the notebook has no parameter '{name}'{close}")
        checked[name] = check_value(offered[name], value, where)
    return checked


def skip_reason(profile: str, notebook: str | os.PathLike, profiles: Profiles) -> str | None:
    """Why `profile` leaves `notebook` out; None when it does not."""
    return profiles.skip.get(check_profile(profile), {}).get(Path(notebook).stem)


def check_all(profiles: Profiles) -> None:
    """Every entry of `profiles.yaml` against every notebook beside it; R1LabError at the first."""
    paths = {p.stem: p for p in notebooks(profiles.path.parent)}
    for profile, entries in [*profiles.overrides.items(), *profiles.skip.items()]:
        for name in entries:
            if name not in paths:
                where, close = f"{profiles.path.name}, {profile}", did_you_mean(name, paths)
                raise R1LabError(f"{where}: there is no notebook '{name}'{close}")
    for path in paths.values():
        for profile in NAMES:
            resolve(profile, path, profiles)


def _mapping(value: Any, path: Path, where: str) -> dict:
    """`value` as a new dict with string keys; an empty section (None) is an empty dict."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise R1LabError(f"{path}: {where} must be a mapping, not {type(value).__name__}")
    return {str(k): v for k, v in value.items()}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as text; a learning rate should be a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
