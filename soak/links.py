"""What one server sends to another goes through a port of ours, which can be cut."""

from __future__ import annotations

import asyncio
import contextlib

CHUNK = 65536


class Link:
    """Connections to `port` are passed on to `target_port`, both on 127.0.0.1."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._cuts = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._abort_all()

    def cut(self) -> None:
        """Nothing passes until it was healed as often as it was cut."""
        self._cuts += 1
        self._abort_all()

    def heal(self) -> None:
        self._cuts -= 1

    def _abort_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cuts:
            writer.transport.abort()
            return
        try:
            onward = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:  # that server is down
            writer.transport.abort()
            return
        writers = {writer, onward[1]}
        self._open |= writers
        try:
            await asyncio.gather(_pass_on(reader, onward[1]), _pass_on(onward[0], writer))
        finally:
            self._open -= writers


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()
