"""Logs: structlog to standard error, readable on a terminal or JSON, without secrets.

The standard library's loggers (aiohttp's, asyncio's) end here too.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import msgspec
import structlog

from homeserver.config import Logging
from homeserver.http.middleware import add_request_id

_SECRET_KEY = re.compile(r"token|password|secret|authorization|signature|cookie", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"((?:access|refresh|login)_?token=|Bearer )[^&@\s\"']+"
    r"|(\w+://[^:/@\s]+:)[^@\s\"']+(?=@)",  # a password in a URL, but no port
    re.IGNORECASE,
)
_QUIET = {"asyncio": logging.WARNING, "aiohttp": logging.WARNING, "asyncpg": logging.ERROR}


def configure_logging(options: Logging) -> None:
    """Sets up all logging of this process."""
    level = getattr(logging, options.level.upper())
    structlog.configure(
        processors=[
            add_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_rendering(options),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=level, force=True)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, least))


def _rendering(options: Logging) -> list[Any]:
    if options.format == "json":
        return [structlog.processors.format_exc_info, hide_secrets, _json]
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [hide_secrets, console]


def _json(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def hide_secrets(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The structlog processor that blanks tokens, passwords and keys."""
    for key, value in event.items():
        if _SECRET_KEY.search(key):
            event[key] = "(hidden)"
        elif isinstance(value, str):
            event[key] = _SECRET_TEXT.sub(r"\1\2(hidden)", value)
    return event


class _ToStructlog(logging.Handler):
    """Hands the standard library's records on."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
