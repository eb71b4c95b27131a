"""What `r1lab ledger` and `r1lab release` do."""

import json
from pathlib import Path

from r1lab import bill
from r1lab.basics import files
from r1lab.cli.commands import Ledger, Release
from r1lab.cli.parse import print_table, project_folder
from r1lab.machine import costs
from r1lab.paper import COSTS
from r1lab.release import publish, tools
from r1lab.training import provenance


def ledger(args: Ledger) -> int:
    tree = provenance.tree(project_folder(args.folder))
    faults, rows = tree.faults(), provenance.bill(tree, args.dollars_per_hour)
    beside = bill.beside(tree, args.dollars_per_hour)
    if args.json:
        found = {"tree": provenance.lines(tree), "faults": faults, "unseen": tree.unseen()}
        print(json.dumps(found | {"bill": rows, "beside": beside}, indent=2, ensure_ascii=False))
        return 1 if faults else 0
    print(*provenance.lines(tree), "", sep="\n")
    head = ("stage", "what", "time", "share", "kWh", "rent", "tokens")
    print_table(head, [
        (
            row["stage"], row["what"], costs.clock(row["seconds"]), f"{row['share']:.1%}",
            f"{row['kwh']:.3g}", costs.money(row["dollars"]),
            "–" if row["tokens"] is None else f"{row['tokens']:,}",
        )
        for row in rows
    ])  # fmt: skip
    print(f"energy: {' | '.join(dict.fromkeys(row['energy'] for row in rows))}\n")
    heads, *lines = bill.table_lines(beside)
    print_table(heads, lines)
    print(f"paper: {COSTS['source']}; base: {COSTS['base']['source']}; evaluations are not in it")
    if unseen := tree.unseen():
        print(f"not here, so their files were not compared: {', '.join(unseen)}")
    print(*faults or ["every file is what was recorded"], sep="\n")
    return 1 if faults else 0


def release(args: Release) -> int:
    folder = Path(project_folder(args.folder))
    if args.chat_template:
        publish.write_chat_template(folder, args.chat_template)
    said = {"license": args.license or "", "base_model": args.base_model or ""}
    if faults := publish.check(folder, **said):
        for fault in faults:
            print(f"{fault.check}: {fault.words}\n    mend: {fault.mend}")
        print(f"not released: {len(faults)} of these are to be mended first")
        return 1
    written = publish.write(folder, **said)
    print(f"{len(publish.CHECKS)} checks passed; written: {', '.join(p.name for p in written)}")
    for name, outcome in tools.tried(folder).items():
        print(f"{name}: {outcome}")
    if args.push:
        repository = publish.push(folder, args.push)
        print(f"pushed to https://huggingface.co/{repository}")
    else:
        print(f"{files.from_here(folder)} is ready; --push OWNER/NAME publishes it")
    return 0
