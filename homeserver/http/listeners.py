"""Where the server listens: each listener with its address, TLS and resources."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable
from functools import partial

from aiohttp.web import Server, ServerRunner, TCPSite

from homeserver.config import Config, Listener, Tls
from homeserver.http.answer import Request
from homeserver.http.endpoint import Endpoints, Resource
from homeserver.http.middleware import Doors, Middleware
from homeserver.http.router import Route, Router

FINISH_SECONDS = 10.0
IDLE_SECONDS = 120.0
MAX_HEADER_BYTES = 65_536
BACKLOG = 1024


class Listeners:
    """All listening sockets of the server."""

    def __init__(self, config: Config, doors: Doors, groups: Iterable[Endpoints]) -> None:
        routes = [Route(d, config.limits) for group in groups for d in group.declarations]
        doors.metrics.routes(routes)
        self._served = [
            (listener, Middleware(doors, _router(listener, routes), listener.x_forwarded))
            for listener in config.listeners
        ]
        self._runners: list[ServerRunner] = []
        self._sites: list[TCPSite] = []

    async def start(self) -> None:
        """Listen. Raises OSError if an address is taken or a certificate can't be used."""
        for listener, middleware in self._served:
            runner = ServerRunner(_server(middleware), shutdown_timeout=FINISH_SECONDS)
            await runner.setup()
            self._runners.append(runner)
            site = TCPSite(
                runner,
                listener.address,
                listener.port,
                ssl_context=_tls_context(listener.tls),
                backlog=BACKLOG,
            )
            try:
                await site.start()
            except OSError as error:
                number = error.errno or 0
                reason = os.strerror(number) if number > 0 else error.strerror
                place = f"{listener.address}, port {listener.port}"
                raise OSError(f"can't listen on {place}: {reason}") from error
            self._sites.append(site)

    def urls(self) -> list[str]:
        """Where each listener can be reached, in the order of the config; real ports."""
        urls: list[str] = []
        for (listener, _), runner in zip(self._served, self._runners, strict=True):
            host, port = runner.addresses[0][:2]
            scheme = "https" if listener.tls else "http"
            urls.append(
                f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
            )
        return urls

    async def close(self) -> None:
        """Take no new connections; open requests go on."""
        for site in self._sites:
            await site.stop()
        self._sites.clear()

    async def finish(self) -> None:
        """Wait for the open requests (so many seconds at most), then drop the connections."""
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        self._runners.clear()


def _server(middleware: Middleware) -> Server:
    return Server(
        middleware,
        request_factory=partial(Request, loop=asyncio.get_running_loop()),
        access_log=None,
        keepalive_timeout=IDLE_SECONDS,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )


def _router(listener: Listener, routes: Iterable[Route]) -> Router:
    resources = {Resource(name) for name in listener.resources} | {Resource.COMMON}
    return Router(route for route in routes if route.declaration.resource in resources)


def _tls_context(tls: Tls | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(tls.certificate, tls.private_key)
    except OSError as error:  # ssl.SSLError too; neither names the file
        raise OSError(f"TLS with {tls.certificate} and {tls.private_key}: {error}") from error
    return context
