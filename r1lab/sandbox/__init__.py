"""Where untrusted text is computed with. `Sandbox` runs programs and judges them: read `verdicts`,
`grader`, `server`, `layers`, `client`. `worker` calls one function of ours on a model's text."""

from r1lab.sandbox.client import Sandbox, default
from r1lab.sandbox.verdicts import Case, Limits, Result, Verdict

__all__ = ["Case", "Limits", "Result", "Sandbox", "Verdict", "default"]
