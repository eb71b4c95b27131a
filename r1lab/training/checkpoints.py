"""Checkpoints: exactly what was saved, or not used.

``step-00000040.pt`` has a sidecar ``step-00000040.pt.sha256``, as ``sha256sum -c`` reads it,
written last. A checkpoint without one is unfinished, one that differs from it is damaged: the one
before is used, which is deleted after the newer one is whole.

States are plain dictionaries of tensors, numbers, strings and lists, loaded with
``weights_only=True``: no code from a checkpoint runs.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import atomic_write_text, clear_unfinished, digest_of, temporary_for

log = logging.getLogger(__name__)
ADVICE = "Choose another folder, or start anew in this one (resume=False, or --fresh)."


def save(directory: str | os.PathLike, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Save `state` as the checkpoint of `step`; delete all but the newest `keep`. Returns the path.
    Raises R1LabError when it cannot be written; earlier checkpoints are untouched then.
    """
    directory = Path(directory)
    path = directory / f"step-{step:08d}.pt"
    with temporary_for(path) as temporary:
        torch.save(state, temporary)
        digest = digest_of(temporary)
        _sidecar(path).unlink(missing_ok=True)  # from here until it is back: "never finished"
    atomic_write_text(_sidecar(path), f"{digest}  {path.name}\n")
    for old in sorted(directory.glob("step-*.pt"))[: -max(1, keep)]:
        _sidecar(old).unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    clear_unfinished(directory)  # of a process that was killed
    return path


def latest(
    directory: str | os.PathLike, problem_with: Callable[[Any], str | None] = lambda state: None
) -> Any:
    """The state of the newest whole checkpoint, on the CPU, or None. Damaged and unfinished ones,
    and those in which `problem_with` finds a problem, are skipped with a warning in the log."""
    for path in sorted(Path(directory).glob("step-*.pt"), reverse=True):
        problem = _damage(path)
        if problem is None:
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # whole, but not ours, or from another version
                problem = f"it cannot be read ({str(error).strip().splitlines()[0][:120]})"
            else:
                problem = problem_with(state)
        if problem is None:
            return state
        log.warning("checkpoint %s is not used: %s. Looking for the one before.", path, problem)
    return None


def latest_of_run(
    out_dir: str | os.PathLike, parts: Mapping, identity: Callable[[int], dict], steps: int
) -> dict[str, Any] | None:
    """`latest` in out_dir/checkpoints, if it belongs to this run.

    parts: what `snapshot` keeps, by name. identity(step): what must equal the checkpoint's "run",
    by name. steps: of the whole run. The model must be the one that the run began with, or that of
    the checkpoint. Raises R1LabError for another run's checkpoint, and when there are finished ones
    but none is whole.
    """

    def problem_with(state: Any) -> str | None:
        needed = ("step", "base", "run", "rng", "now", *parts)
        state = state if isinstance(state, dict) else {}
        lacking = [name for name in needed if name not in state]
        if words := malformed(state):
            return words
        if not {"step", "base", "run", "now"} & {*lacking}:  # another run's may have other parts
            require_same_run(out_dir, state, identity(state["step"]), steps, parts["model"])
        if lacking:
            return f"it lacks {', '.join(lacking)}"
        unlike = [n for n, part in parts.items() if _shape(part.state_dict()) != _shape(state[n])]
        return f"it does not fit the run in {', '.join(unlike)}" if unlike else None

    state = latest(Path(out_dir) / "checkpoints", problem_with=problem_with)
    sealed = (Path(out_dir) / "checkpoints").glob("step-*.sha256")
    if state is None and any(sealed):  # else it was killed in the very first one: from step 0
        raise R1LabError(f"no checkpoint in {Path(out_dir) / 'checkpoints'} is whole. {ADVICE}")
    return state


def malformed(state: Mapping[str, Any]) -> str | None:
    """What of a checkpoint's own fields is not what `Loop` writes; None where all are."""
    kinds = {"step": int, "base": str, "run": dict, "now": str, "from": dict, "rng": torch.Tensor}
    wrong = [n for n, kind in kinds.items() if n in state and not isinstance(state[n], kind)]
    return f"its {', '.join(wrong)} cannot be read" if wrong else None


def require_same_run(
    out_dir: str | os.PathLike, state: Mapping, now: Mapping, steps: int, model: torch.nn.Module
) -> None:
    """Raises R1LabError, with all differences, for a checkpoint of another run. state: its step,
    base, now and run; now: what this run of `steps` steps is."""
    was = state["run"]
    changed = [f"{n} was {was.get(n)!r} and is {now[n]!r}" for n in now if was.get(n) != now[n]]
    if steps < state["step"]:
        changed = [f"{state['step']} steps are done, and steps is {steps}"]
    if fingerprint(model) not in (state["base"], state["now"]):
        changed.append("the model is not the one it began with (load that one again)")
    if changed:
        raise R1LabError(f"{out_dir} holds another run: {'; '.join(changed)}. {ADVICE}")


def _shape(state: Mapping[str, Any]) -> Any:
    """Names and shapes of parameters, or the sizes of an optimizer's groups."""
    if "param_groups" in state:
        return [len(group["params"]) for group in state["param_groups"]]
    return {name: getattr(value, "shape", None) for name, value in state.items()}


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file, or None."""
    try:
        expected = _sidecar(path).read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return "it was never finished (no checksum beside it)"
    if digest_of(path) != expected:
        return "it is damaged (its checksum differs from the one saved with it)"
    return None


def snapshot(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The state that the next step depends on: parts (model, optimizers, a reference), by name, and
    torch's generator. The loops derive prompts and seeds from the step's number."""
    state = {name: part.state_dict() for name, part in parts.items()}
    return state | {"rng": torch.get_rng_state(), "now": fingerprint(parts["model"])}


def restore(state: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """The inverse of `snapshot`, bit for bit."""
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["rng"])


def probe(model: torch.nn.Module) -> torch.Tensor:
    """Up to 1,024 values of every parameter in one float64 vector on the CPU: a cheap way to see
    whether they changed."""
    return torch.cat([p.detach().flatten()[:1024].double().cpu() for p in model.parameters()])


def fingerprint(model: torch.nn.Module) -> str:
    """A short name for the weights as they are now."""
    return hashlib.sha256(probe(model).numpy().tobytes()).hexdigest()[:16]
