"""The command `watch`. It imports what it needs."""
# fmt: off

import contextlib
from dataclasses import dataclass
from functools import partial

from r1lab.basics.errors import R1LabError
from r1lab.basics.options import option
from r1lab.cli.parse import Command, flag, number, text


@dataclass(kw_only=True)
class Watch(Command):
    """look at runs while they train: curves, diagnosis, time, dollars, completions

    RUN is the folder of a run, of either backend, that trains, has been stopped, or is done. Only
    its files are read, so the watcher may be started and ended at any time. In the terminal by
    default; --browser serves a page on this machine alone, and prints its address with a token.

    examples:
      r1lab watch runs/train
      r1lab watch runs/train-1 runs/train-2 --browser      two runs beside each other
      r1lab watch --class students --browser               the newest run of every student
      r1lab watch runs/train --once                        print it once, for a log
    """
    run: tuple = option((), "folder of a run", positional=True, metavar="RUN")
    of_class: str | None = text("a folder with a folder for each student: their newest runs",
        "FOLDER", path=True, flag="class")
    browser: bool = flag("serve a page on 127.0.0.1, until Ctrl-C")
    port: int = option(0, "of the page; 0: a free one", low=0, high=65535)
    once: bool = flag("print once, and end")
    seconds: float = option(2.0, "between two looks in the terminal", low=0.1)
    dollars_per_hour: float | None = number("of the machine (default: as the run says, by the "
        "price table)", float)


def watch(args: Watch) -> None:
    from r1lab.show import runs, terminal

    if bool(args.run) == bool(args.of_class):
        raise R1LabError("name the folders of runs, or a class: r1lab watch runs/train")
    price = args.dollars_per_hour
    if args.of_class:  # students who begin later are found too
        find = partial(runs.of_class, args.of_class, price, known={})
    else:
        known = runs.named(args.run, price)

        def find():
            for run in known:
                run.refresh()
            return known
    find()
    if not args.browser:
        terminal.watch(find, args.seconds, args.once)
        return
    from r1lab.show.page import Server

    try:
        server = Server(find, "r1lab watch", args.port)
    except OSError as error:
        raise R1LabError(f"port {args.port}: {error.strerror}; take another --port") from error
    print(f"open {server.address}")
    print("it is served on this machine alone; from elsewhere go through ssh: "
          f"ssh -N -L {server.port}:127.0.0.1:{server.port} THIS-MACHINE")
    print("Ctrl-C ends it", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
