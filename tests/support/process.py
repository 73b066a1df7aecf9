"""The homeserver as a process of its own, for crashes, signals and starts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

from homeserver.json_types import JsonObject
from tests.support.client import Client

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 30.0


def environment() -> dict[str, str]:
    """This process's environment, so that the child imports this checkout and no options leak."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HOMESERVER_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


class ServerProcess:
    """`python -m homeserver run --config FILE` with these config values; logs go to a file.

    It may take `patience` seconds to start, and to end.
    """

    def __init__(
        self, values: JsonObject, directory: Path, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._patience = patience
        self.values = {
            "data_dir": str(directory / "data"),
            **values,
            "logging": {"format": "json"},
        }
        self._config = directory / "config.json"
        self._config.write_text(json.dumps(self.values))
        self._log = directory / "homeserver.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._http: aiohttp.ClientSession | None = None
        self.url = ""

    async def start(self) -> float:
        """Starts it; seconds until it answered."""
        self._http = self._http or aiohttp.ClientSession()
        before = time.monotonic()
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "homeserver", "run", "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                cwd=self._config.parent,
            )
        async with asyncio.timeout(self._patience):
            while not (started := _event(self._lines(begin), "listening")):
                if self._process.poll() is not None:
                    raise AssertionError(f"it didn't start:\n{self.log()}")
                await asyncio.sleep(0.01)
        self.url = started["urls"][0]
        return time.monotonic() - before

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")

    def events(self, name: str) -> list[JsonObject]:
        """The log lines with this event."""
        return [line for line in self._lines(0) if line.get("event") == name]

    def _lines(self, begin: int) -> list[JsonObject]:
        text = self._log.read_bytes()[begin:].decode(errors="replace")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def kill(self) -> None:
        """As a crash would: SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(self._patience)

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to end and waits; its exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(how)
        return await asyncio.to_thread(self._process.wait, self._patience)

    async def close(self) -> None:
        """The end of the test."""
        if self._http is not None:
            await self._http.close()
        if self._process is not None:
            try:
                await self.end()
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def client(self) -> Client:
        """A client without an account."""
        assert self._http is not None
        return Client(self._http, self.url)

    def moved(self, client: Client) -> Client:
        """`client` (from before a restart) at the server's present address."""
        client.url = self.url
        return client


def _event(lines: list[JsonObject], name: str) -> JsonObject | None:
    return next((line for line in lines if line.get("event") == name), None)


def command(*arguments: str, text: str = "", **variables: Any) -> subprocess.CompletedProcess[str]:
    """Runs `homeserver ARGUMENTS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "homeserver", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={**environment(), **variables},
        timeout=60,
    )
