"""Two trees in turn: what a change costs the hot path.

    python -m bench.compare BEFORE AFTER [--kind messages] [--rounds 4]

Each tree is a checkout with its `.venv` (`make install`). Rates of a busy machine say little; CPU microseconds a message, of
runs that took turns, say a few hundredths.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

TIMEOUT = 300.0
ONE = """
import asyncio, json, sys
from bench import throughput
from bench.junebug import Servers
with Servers() as servers:
    print("row", json.dumps(asyncio.run(throughput._measured(servers, getattr(throughput, sys.argv[1])))))
"""


def measured(tree: Path, kind: str) -> dict[str, Any]:
    """A row of `bench throughput`, of this tree's code."""
    command = [str(tree / ".venv/bin/python"), "-c", ONE, kind]
    output = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT, text=True).stdout
    row: dict[str, Any] = next(json.loads(line.removeprefix("row ")) for line in output.splitlines() if line.startswith("row "))
    row["all_us"] = sum(value for name, value in row.items() if name.endswith("_us"))
    return row


@click.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
@click.option("--kind", type=click.Choice(["messages", "cycles", "bulk", "inbound"]), default="messages")
@click.option("--rounds", default=4)
def main(before: Path, after: Path, kind: str, rounds: int) -> None:
    rows: dict[Path, list[dict[str, Any]]] = {before: [], after: []}
    for number in range(rounds):
        for tree in (before, after) if number % 2 == 0 else (after, before):
            rows[tree].append(measured(tree, kind))
            print(tree, rows[tree][-1], file=sys.stderr, flush=True)
    for name in rows[before][0]:
        was, now = (statistics.median(row[name] for row in rows[tree]) for tree in (before, after))
        if was:
            print(f"{name:16}{was:10.0f}{now:10.0f}{now / was:8.3f}")


if __name__ == "__main__":
    main()
