"""The server under measurement: a process of its own with its own embedded PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from homeserver.store.embedded import running_url

START_SECONDS = 60.0
CONFIG: dict[str, Any] = {
    "server_name": "bench.local",
    "listeners": [{"port": 0, "resources": ["client", "federation"]}],
    "registration": {"enabled": True, "requires_token": False},
    "password": {"bcrypt_rounds": 4},
    "rate_limits": {"enabled": False},
    "logging": {"format": "json"},
}


class Server:
    """Rules of a fair measurement: rate limits off, cheap passwords, everything else as it comes.

    fsync is on: what was acknowledged is on disk.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="homeserver-bench-"))
        self._config = self.directory / "config.json"
        self._config.write_text(json.dumps({**CONFIG, "data_dir": "data"}))
        self._log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._postgres: psutil.Process | None = None
        self._database: asyncpg.Connection[asyncpg.Record] | None = None
        self.url = ""

    def configure(self, **more: Any) -> None:
        """Further options, before it starts."""
        self._config.write_text(json.dumps({**CONFIG, "data_dir": "data", **more}))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> float:
        """Seconds until it answered."""
        self._log.write_bytes(b"")
        # An installed server has compiled modules: without them half of a start is the compiler.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        before = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "homeserver", "run", "--config", str(self._config)],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        async with asyncio.timeout(START_SECONDS):
            while not (urls := self._urls()):
                if self._process.poll() is not None:
                    raise SystemExit(f"the server didn't start:\n{self._log.read_text()}")
                await asyncio.sleep(0.005)
        seconds = time.perf_counter() - before
        self.url = urls[0]
        cluster = self.directory / "data" / "postgres"
        postmaster = int((cluster / "postmaster.pid").read_text().split()[0])
        self._postgres = psutil.Process(postmaster)
        self._database = await asyncpg.connect(running_url(cluster))
        return seconds

    def _urls(self) -> list[str]:
        for line in self._log.read_text().splitlines():
            if line.startswith("{") and (event := json.loads(line))["event"] == "listening":
                return list(event["urls"])
        return []

    async def stop(self) -> None:
        if self._database is not None:
            await self._database.close()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self._process.wait, 60)

    async def restart(self) -> float:
        await self.stop()
        return await self.start()

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    # What it used

    def cpu(self) -> float:
        """Seconds of CPU of the server's process so far."""
        assert self._process is not None
        return _cpu(self._process.pid)

    def postgres_cpu(self) -> float:
        """Seconds of CPU of all of PostgreSQL's living processes so far."""
        assert self._postgres is not None
        own = self._database.get_server_pid() if self._database is not None else 0
        children = [p.pid for p in self._postgres.children(recursive=True) if p.pid != own]
        return sum(map(_cpu, [self._postgres.pid, *children]))

    def memory(self) -> int:
        """Bytes that the server's process has for itself."""
        assert self._process is not None
        full = psutil.Process(self._process.pid).memory_full_info()
        return int(getattr(full, "pss", full.rss))

    async def wal(self) -> int:
        """Bytes of write-ahead log so far."""
        assert self._database is not None
        position = await self._database.fetchval(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
        )
        return int(position)


def _cpu(pid: int) -> float:
    try:
        if hasattr(os, "pidfd_open"):  # Linux: the process's own clock, in nanoseconds
            return time.clock_gettime((~pid << 3) | 2)
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    except (OSError, psutil.Error):
        return 0.0
