"""In the sandbox's process alone (`task` starts it): an environment's rewards.

verifiers and the environment are imported before the sandbox closes; a model's text comes
afterwards, into a child that the sandbox holds. An event loop needs a socket, which a child has
not: a reward that waits for something is none that runs offline, and raises.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy  # noqa: F401  a reward may import it late
import verifiers.v1 as vf


def score(which: str, options: dict, data: dict, reply: str, decides: str) -> bool:
    """Is the reply worth the full score? decides: the one reward that says so, or "": all of them
    with a weight above 0. Raises what a reward raises."""
    kind = vf.task_type(which)
    config = vf.taskset_config_type(which).model_validate({"id": which, **options}).task
    row = kind.data_type().model_validate(data)
    task, found = kind(row, config), {}
    turns = vf.UserMessage(content=row.prompt_text), vf.AssistantMessage(content=reply)
    nodes = [vf.MessageNode(message=turns[0])]
    nodes.append(vf.MessageNode(message=turns[1], parent=0, sampled=True))
    about = vf.TraceTask(type=kind.__name__, data=row)
    trace = vf.Trace.model_construct(task=about, nodes=nodes, verifiers=None, agent=None)
    for reward in task.hooks("reward"):
        wanted = {"task": row, "trace": trace, "runtime": None}
        given = {name: wanted[name] for name in inspect.signature(reward).parameters
                 if name in wanted}  # fmt: skip
        value = finished(reward(**given))
        values = value if isinstance(value, Mapping) else {reward.__name__: value}
        if getattr(reward, "_vf_weight", 1.0) > 0 or decides in values:
            found |= values
    if decides:
        return bool(found[decides] >= 1)
    return bool(found) and all(value >= 1 for value in found.values())


def finished(found: Any) -> Any:
    """The result of a coroutine that waits for nothing outside; anything else as it is."""
    if not inspect.isawaitable(found):
        return found
    try:
        found.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("this reward waits for something outside of the sandbox")
