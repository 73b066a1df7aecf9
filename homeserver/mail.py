"""Letters to people: plain text, by SMTP.

Rules of this file: a thread of its own sends a letter, since `smtplib` waits; what the mail server
says of a failure goes into the log, not to whoever asked for the letter.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct

from homeserver.config import Mail
from homeserver.errors import Unavailable

if TYPE_CHECKING:
    from email.message import EmailMessage

log = structlog.get_logger(__name__)


class Letter(Struct, frozen=True):
    to: str
    subject: str
    text: str


class Postman:
    """Hands letters to the mail server of the config."""

    def __init__(self, options: Mail) -> None:
        self._options = options

    @property
    def works(self) -> bool:
        """Is there a mail server at all?"""
        return self._options.host is not None

    async def send(self, letter: Letter) -> None:
        """Raises `Unavailable` if the mail server doesn't take it."""
        try:
            await asyncio.to_thread(self._hand_over, self._message(letter))
        except OSError as error:  # `smtplib.SMTPException` is one
            log.warning("mail not sent", error=str(error)[:200])
            raise Unavailable("The mail could not be sent") from None

    def _message(self, letter: Letter) -> EmailMessage:
        from email.message import EmailMessage  # only if mail is sent
        from email.utils import formatdate, make_msgid

        message = EmailMessage()
        message["From"] = self._options.sender
        message["To"] = letter.to
        message["Subject"] = letter.subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(
            domain=self._options.sender.rpartition("@")[2].strip(">")
        )
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        return message

    def _hand_over(self, message: EmailMessage) -> None:
        import smtplib  # only if mail is sent
        import ssl

        options = self._options
        assert options.host is not None
        context = ssl.create_default_context()
        if options.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                options.host, options.port, timeout=options.timeout, context=context
            )
        else:
            server = smtplib.SMTP(options.host, options.port, timeout=options.timeout)
        with server:
            if options.security == "starttls":
                server.starttls(context=context)
            if options.user is not None:
                server.login(options.user, options.password or "")
            server.send_message(message)
