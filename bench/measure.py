"""Measuring sections of work: latencies, CPU of server and PostgreSQL, write-ahead log."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from bench.server import Server

TRAILING_SECONDS = 0.2  # work that the server does after its answer belongs to the operation


@dataclass
class Row:
    """What one scenario gave."""

    name: str
    operations: int = 0
    seconds: float = 0.0
    server_cpu: float = 0.0
    postgres_cpu: float = 0.0
    wal: int = 0
    memory: int = 0
    latencies: list[float] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.latencies)
        return 1e3 * ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Counts one operation and its latency."""
        before = time.perf_counter()
        yield
        self.latencies.append(time.perf_counter() - before)
        self.operations += 1

    def figures(self) -> dict[str, float]:
        """Per operation."""
        count = max(1, self.operations)
        figures = {
            "operations": self.operations,
            "per_second": self.operations / self.seconds if self.seconds else 0.0,
            "server_cpu_ms": 1e3 * self.server_cpu / count,
            "postgres_cpu_ms": 1e3 * self.postgres_cpu / count,
            "wal_bytes": self.wal / count,
            "memory_mib": self.memory / 2**20,
        }
        if self.latencies:
            figures |= {"p50_ms": self.percentile(0.5), "p99_ms": self.percentile(0.99)}
        return figures | self.notes


@asynccontextmanager
async def section(server: Server, row: Row) -> AsyncIterator[None]:
    """Adds what the block costs to `row`; blocks of one row add up."""
    wal = await server.wal()
    server_cpu, postgres_cpu = server.cpu(), server.postgres_cpu()
    before = time.perf_counter()
    yield
    row.seconds += time.perf_counter() - before
    await asyncio.sleep(TRAILING_SECONDS)
    row.server_cpu += server.cpu() - server_cpu
    row.postgres_cpu += server.postgres_cpu() - postgres_cpu
    row.wal += await server.wal() - wal
    row.memory = server.memory()


COLUMNS = (
    ("operations", "operations", "{:.0f}"),
    ("per_second", "per second", "{:,.0f}"),
    ("p50_ms", "p50 ms", "{:.2f}"),
    ("p99_ms", "p99 ms", "{:.2f}"),
    ("server_cpu_ms", "server CPU ms", "{:.3f}"),
    ("postgres_cpu_ms", "Postgres CPU ms", "{:.3f}"),
    ("wal_bytes", "WAL bytes", "{:,.0f}"),
    ("memory_mib", "memory MiB", "{:.0f}"),
)


def table(rows: list[Row]) -> str:
    """The results as a Markdown table, CPU and WAL per operation."""
    lines = [
        "| | " + " | ".join(title for _, title, _ in COLUMNS) + " | |",
        "| --- |" + " ---: |" * len(COLUMNS) + " --- |",
    ]
    known = {name for name, _, _ in COLUMNS}
    for row in rows:
        figures = row.figures()
        cells = [form.format(figures[name]) if name in figures else "" for name, _, form in COLUMNS]
        notes = ", ".join(f"{k} {v:,.3g}" for k, v in figures.items() if k not in known)
        lines.append(f"| {row.name} | {' | '.join(cells)} | {notes} |")
    return "\n".join(lines)
