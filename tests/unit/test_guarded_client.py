"""Requests to the outside never reach our own network."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from homeserver.config import Outgoing
from homeserver.remote.guarded_client import (
    AddressGuard,
    TooMuch,
    Trust,
    guarded_connector,
    guarded_session,
    is_refused,
    read_at_most,
)

PRIVATE = [
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "0.0.0.0"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1"),
    *("::", "::1", "::7f00:1", "fe80::1", "fe80::1%lo", "fc00::1", "fd00:ec2::254", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("2002:7f00:1::", "2001:0:7f00:1::1", "2001:db8::1", "not an address", ""),
]
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", PRIVATE)
def test_special_addresses_are_refused(address: str) -> None:
    assert not AddressGuard().allows(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_global_addresses_are_allowed(address: str) -> None:
    assert AddressGuard().allows(address)


def test_a_range_can_be_allowed() -> None:
    guard = AddressGuard(["10.1.0.0/16", "fd00::/64"])
    assert guard.allows("10.1.2.3") and guard.allows("::ffff:10.1.2.3") and guard.allows("fd00::1")
    assert not guard.allows("10.2.0.1") and not guard.allows("127.0.0.1")


class Changing(AbstractResolver):
    """A name server that gives another address each time."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self._addresses.pop(0)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
async def local() -> AsyncIterator[int]:
    """The port of a web server on 127.0.0.1 that redirects to itself by other names."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if target := request.query.get("to"):
            raise web.HTTPFound(target)
        return web.Response(body=b"x" * 1000)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def outcome(outgoing: Outgoing, url: str, resolver: Any = None) -> int | str:
    """The answer's status, or "refused"."""
    connector = guarded_connector(outgoing, resolver=resolver)
    async with guarded_session(outgoing, seconds=5, connector=connector) as session:
        try:
            async with session.get(url) as response:
                return response.status
        except aiohttp.ClientError as error:
            assert is_refused(error) or isinstance(error, aiohttp.InvalidURL), error
            return "refused"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0", "[::1]"])
async def test_this_machine_is_out_of_reach_under_every_name(local: int, host: str) -> None:
    assert await outcome(Outgoing(), f"http://{host}:{local}/") == "refused"


async def test_a_redirect_does_not_reach_further(local: int) -> None:
    outgoing = Outgoing(allowed_private_ranges=("127.0.0.1/32",))
    start = f"http://127.0.0.1:{local}/"
    assert await outcome(outgoing, start) == 200
    assert await outcome(outgoing, f"{start}?to={start}") == 200
    assert await outcome(outgoing, f"{start}?to=http://127.0.0.2:{local}/") == "refused"
    assert await outcome(outgoing, f"{start}?to=http://169.254.169.254/latest/") == "refused"


async def test_a_name_that_moves_to_a_private_address_is_refused(local: int) -> None:
    outgoing = Outgoing(allowed_private_ranges=("127.0.0.1/32",))
    first = f"http://rebinding.test:{local}/"
    again = f"{first}?to=http://second.rebinding.test:{local}/"
    assert await outcome(outgoing, again, Changing("127.0.0.1", "127.0.0.1")) == 200
    assert await outcome(outgoing, again, Changing("127.0.0.1", "127.0.0.2")) == "refused"


async def test_an_answer_is_read_up_to_a_size(local: int) -> None:
    outgoing = Outgoing(allowed_private_ranges=("127.0.0.1/32",))
    async with guarded_session(outgoing, seconds=5) as session:
        async with session.get(f"http://127.0.0.1:{local}/") as response:
            assert len(await read_at_most(response, 1000)) == 1000
        async with session.get(f"http://127.0.0.1:{local}/") as response:
            with pytest.raises(TooMuch):
                await read_at_most(response, 999)


def test_the_systems_authorities_are_trusted_when_they_are_needed() -> None:
    trust = Trust(Outgoing())
    assert trust.context.verify_mode == ssl.CERT_REQUIRED
    assert trust.context.check_hostname
    assert trust.context.cert_store_stats()["x509_ca"] == 0
    trust.complete()
    expected = ssl.create_default_context().cert_store_stats()
    assert trust.context.cert_store_stats() == expected


def test_certificates_go_unverified_only_if_the_config_says_so() -> None:
    trust = Trust(Outgoing(verify_certificates=False))
    assert trust.context.verify_mode == ssl.CERT_NONE
    assert not trust.context.check_hostname
