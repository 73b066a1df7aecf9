"""Delegation by .well-known: what a host says, and what becomes of it while it says nothing."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from homeserver.remote.well_known import GRACE_FAILURES, WellKnown
from tests.support.certificates import Authority

HOUR = 3600.0


class Here(AbstractResolver):
    """Every host is this machine, and every port this one."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = ResolveResult(
            hostname=host, host="127.0.0.1", port=self._port, family=family, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None:
        pass


class Host:
    """A web server that delegates, and a clock."""

    def __init__(self) -> None:
        self.status = 200
        self.body = '{"m.server": "matrix.host.test:443"}'
        self.asked = 0
        self.now = 0.0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked += 1
        return web.Response(status=self.status, text=self.body)


@pytest.fixture
async def host() -> Host:
    return Host()


@pytest.fixture
async def well_known(host: Host, authority: Authority) -> AsyncIterator[WellKnown]:
    runner = web.ServerRunner(web.Server(host.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server_context("host.test"))
    await site.start()
    trusted = ssl.create_default_context(cafile=str(authority.ca_file))
    connector = aiohttp.TCPConnector(resolver=Here(runner.addresses[0][1]), ssl=trusted)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield WellKnown(session, lambda: host.now)
    await runner.cleanup()


async def test_an_answer_is_kept_for_a_day(host: Host, well_known: WellKnown) -> None:
    for _ in range(2):
        assert await well_known.delegated_name("host.test") == "matrix.host.test:443"
    assert host.asked == 1
    host.now += 25 * HOUR
    host.body = '{"m.server": "elsewhere.test"}'
    assert await well_known.delegated_name("host.test") == "elsewhere.test"


async def test_a_host_in_trouble_delegates_as_before_for_a_while(
    host: Host, well_known: WellKnown
) -> None:
    await well_known.delegated_name("host.test")
    host.status = 503
    for _ in range(GRACE_FAILURES):
        host.now += 25 * HOUR
        assert await well_known.delegated_name("host.test") == "matrix.host.test:443"
    host.now += 25 * HOUR
    assert await well_known.delegated_name("host.test") is None


@pytest.mark.parametrize(("status", "body"), [(404, "{}"), (200, "<html>"), (200, "{}")])
async def test_a_host_that_says_so_delegates_no_more(
    host: Host, well_known: WellKnown, status: int, body: str
) -> None:
    await well_known.delegated_name("host.test")
    host.now += 25 * HOUR
    host.status, host.body = status, body
    assert await well_known.delegated_name("host.test") is None
    asked = host.asked
    assert await well_known.delegated_name("host.test") is None
    assert host.asked == asked
