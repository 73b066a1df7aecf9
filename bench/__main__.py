"""`make bench`: runs the scenarios against a server of its own and prints a table.

make bench                                 everything, a few minutes
make bench ARGS="--quick"                  tiny, to see that it works
make bench ARGS="--scenarios send,sync"
make bench ARGS="--json bench/results/today.json"
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

import uvloop

from bench.measure import Row, table
from bench.scenarios import QUICK, SCENARIOS, Sizes
from bench.server import Server

SCENARIO_SECONDS = 600.0


def reference_cpu_ms() -> float:
    """A fixed piece of Python: how fast is this machine just now?"""
    before = time.process_time()
    sum(n * n % 7 for n in range(200_000))
    return 1e3 * (time.process_time() - before)


async def run(names: list[str], sizes: Sizes) -> list[Row]:
    server = Server()
    rows: list[Row] = []
    try:
        await server.start()
        for name in names:
            print(f"{name} ...", flush=True)
            async with asyncio.timeout(SCENARIO_SECONDS):
                rows += [row async for row in SCENARIOS[name](server, sizes)]
    finally:
        await server.stop()
        server.remove()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="which ones")
    parser.add_argument("--json", type=Path, help="write the figures to a file too")
    options = parser.parse_args()
    names = options.scenarios.split(",")
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    reference = reference_cpu_ms()
    rows = uvloop.run(run(names, QUICK if options.quick else Sizes()))
    print(f"\n{table(rows)}\n\nCPU and WAL are per operation; {reference:.0f} ms for a fixed piece")
    print("of Python (compare figures of two machines by it).")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {row.name: row.figures() for row in rows}
        options.json.write_text(json.dumps({"reference_cpu_ms": reference, **figures}, indent=1))


if __name__ == "__main__":
    main()
