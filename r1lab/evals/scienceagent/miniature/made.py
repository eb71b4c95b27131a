"""One task of the miniature: its words, and how its data are made."""

import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

#: Stands in every gold program and checker: who finds it in a corpus has found the test data.
CANARY = "r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e"
PREVIEW = 3  # lines of a file that the request shows


@dataclass(frozen=True)
class Made:
    """name: of the data set, the gold program and the result. suffix: of the output. files: the
    data set, texts by path, from a random generator. figure: the output is a figure's data."""

    name: str
    domain: str
    subtask: str
    inst: str
    knowledge: str
    suffix: str
    files: Callable[[random.Random], dict[str, str]]
    figure: bool = False

    @property
    def output(self) -> str:
        return f"pred_results/{self.name}{self.suffix}"

    def digest(self, seed: int) -> str:
        """Of words and data: another one, another task."""
        files = self.files(random.Random(f"{seed} {self.name}"))
        text = repr((self.row(0, files), sorted(files.items())))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def row(self, number: int, files: dict[str, str]) -> dict[str, Any]:
        """The twelve columns."""
        return {
            "instance_id": number,
            "domain": self.domain,
            "subtask_categories": "Figure (its data)" if self.figure else self.subtask,
            "github_name": "r1lab",
            "task_inst": self.inst.format(output=self.output),
            "domain_knowledge": self.knowledge,
            "dataset_folder_tree": tree(self.name, files),
            "dataset_preview": preview(self.name, files),
            "src_file_or_path": f"gold_programs/{self.name}.py",
            "gold_program_name": f"{self.name}.py",
            "output_fname": self.output,
            "eval_script_name": f"{self.name}_eval.py",
        }


def tree(name: str, files: dict[str, str]) -> str:
    """The folder as the benchmark draws it."""
    lines, folders = [f"|-- {name}/"], set()
    for path in sorted(files):
        *above, file = path.split("/")
        if above and above[0] not in folders:
            folders.add(above[0])
            lines.append(f"|---- {above[0]}/")
        lines.append(f"|{'-' * (4 + 2 * len(above))} {file}")
    return "\n".join(lines)


def preview(name: str, files: dict[str, str]) -> str:
    """The first lines of each kind of file."""
    shown, parts = set(), []
    for path, text in sorted(files.items()):
        if (kind := path.rpartition("/")[0] or path) in shown:
            continue
        shown.add(kind)
        lines = [line[:100] for line in text.splitlines()[:PREVIEW]]
        parts += [f"[START Preview of {name}/{path}]", *lines, "...", "[END Preview]"]
    return "\n".join(parts)


def table(head: str, rows: Iterable[Iterable[Any]]) -> str:
    """CSV of a head and rows; floats are written with the digits that they have."""
    return "\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n"
