"""A mail server for tests: it takes every letter and keeps it."""

from __future__ import annotations

import asyncio
import email
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import default


class Mailbox:
    """`refuses` makes it refuse letters."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.refuses = False
        self.port = 0

    def link(self) -> str:
        """The link in the newest letter."""
        found = re.search(r"https?://\S+", self.letters[-1].get_content())
        assert found is not None
        return found.group()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test\r\n")
        while line := await reader.readline():
            command = line[:4].upper().strip()
            if command == b"DATA":
                writer.write(b"354 go on\r\n")
                text = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
                letter = email.message_from_bytes(text, policy=default)
                self.letters.append(letter)
            if command == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            refused = self.refuses and command == b"RCPT"
            writer.write(b"550 no\r\n" if refused else b"250 fine\r\n")
        writer.close()


@asynccontextmanager
async def mailbox() -> AsyncIterator[Mailbox]:
    """A mailbox that is served at 127.0.0.1."""
    box = Mailbox()
    server = await asyncio.start_server(box._talk, "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    async with server:
        yield box
