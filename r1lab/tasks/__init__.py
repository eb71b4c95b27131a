"""Tasks: problems with answers that a rule can check. `registry` has them by name."""

from r1lab.tasks.base import SPLITS, Problem, Task, distinct
from r1lab.tasks.countdown import Countdown
from r1lab.tasks.general import Lists, Requests, Steps
from r1lab.tasks.gym.words import WordProblems
from r1lab.tasks.hub import GSM8K, MATH, CountdownHub
from r1lab.tasks.mixture import Mixture
from r1lab.tasks.registry import TASKS, get_task, task_for

__all__ = ["GSM8K", "MATH", "SPLITS", "TASKS", "Countdown", "CountdownHub", "Lists", "Mixture"]
__all__ += ["Problem", "Requests", "Steps", "Task", "WordProblems", "distinct", "get_task"]
__all__ += ["task_for"]
