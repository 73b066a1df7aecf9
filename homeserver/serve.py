"""`homeserver run`: the server in the foreground, from its first line to its clean end."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import structlog
import uvloop

from homeserver.app import Homeserver, running
from homeserver.config import Config
from homeserver.errors import Unavailable
from homeserver.logs import configure_logging
from homeserver.services.app_services.registry import RegistrationError
from homeserver.signing_key import SigningKeyError
from homeserver.store.database import MigrationError
from homeserver.store.postgres_wheel import EmbeddedError
from homeserver.store.stream_positions import WriterLockTaken

log = structlog.get_logger()

GC_THRESHOLDS = (20_000, 10, 10)
"""Requests leave nearly no cycles; with Python's defaults looking for them is a tenth of each."""

MAX_FILES = 1_048_576

LOCAL_BANNER = """
  The homeserver runs: {url}
  Its name is {name}: users are @you:{name}. Only this machine can reach it.

  Connect a client   Element: "Sign in", edit the homeserver, enter {url}
  Make an account    in the client ("Create account"), or: {command} register you{option}
  Your data          {data_dir}
  For the world      {command} generate-config -o config.yaml; {command} run -c config.yaml

  Ctrl-C ends it.
"""


FIRST_ADMIN_BANNER = """
  Nobody has an account here yet. Whoever registers with this token is the admin (once, today):

      {token}

  In a client: "Create account". Or here: homeserver register NAME --admin --config FILE
"""


_REFUSALS = (
    EmbeddedError,
    MigrationError,
    RegistrationError,
    SigningKeyError,
    WriterLockTaken,
    OSError,
)


def serve(config: Config, *, is_local: bool) -> None:
    """Runs until SIGINT or SIGTERM. Ends the process with a sentence if it can't be started."""
    configure_logging(config.logging)
    allow_many_files()
    try:
        uvloop.run(_serve(config, is_local))
    except _REFUSALS as error:
        _refuse(_sentence(error))
    except Unavailable as error:
        _refuse(error.message)


def allow_many_files() -> None:
    """Each connection is an open file, and the usual limit (1,024) is one that a process may raise:
    where it is reached, nobody can connect any more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if most == resource.RLIM_INFINITY else min(most, MAX_FILES)
    with suppress(ValueError, OSError):  # then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def _serve(config: Config, is_local: bool) -> None:
    ending = asyncio.Event()
    _end_on_signals(ending)
    async with running(config) as server:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.reload)
        gc.set_threshold(*GC_THRESHOLDS)
        gc.collect()
        gc.freeze()  # what the modules hold is never looked at again
        _announce(server, is_local)
        await ending.wait()
        log.info("ending")
    log.info("ended")


def _end_on_signals(ending: asyncio.Event) -> None:
    """The first signal asks for a clean end, the second one doesn't wait for it."""

    def end() -> None:
        if ending.is_set():
            os._exit(130)
        ending.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)


def _announce(server: Homeserver, is_local: bool) -> None:
    log.info("listening", server_name=server.config.server_name, urls=server.urls)
    if is_local:
        print(_banner(server), flush=True)
    if server.first_admin_token is not None:
        print(
            FIRST_ADMIN_BANNER.format(token=server.first_admin_token), flush=True
        )  # never in the logs


def _banner(server: Homeserver) -> str:
    config = server.config
    is_elsewhere = config.data_dir != Path("data").absolute()
    return LOCAL_BANNER.format(
        url=server.urls[0],
        name=config.server_name,
        data_dir=config.data_dir,
        command=sys.argv[0] if sys.argv[0].endswith("homeserver") else "homeserver",
        option=f" --data-dir {config.data_dir}" if is_elsewhere else "",
    )


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _refuse(problem: str) -> NoReturn:
    log.error("can't start", problem=problem)
    raise SystemExit(1)
