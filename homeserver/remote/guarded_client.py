"""Requests to addresses that somebody else told us: they never reach our own network.

Rules of this file: it guards the address that a connection is really made to, after every look-up
and on every redirect, so a name that resolves differently the second time gains nothing; whoever
talks to federation, push gateways, application services or web pages takes a session from here.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from typing import Any

from aiohttp import (
    ClientConnectorError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver

from homeserver.config import Outgoing

USER_AGENT = "homeserver"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Special addresses that Python's `ipaddress` holds for global: the metadata service of Azure,
# the protocol assignments of RFC 6890 (with Oracle's metadata service), relays into 6to4.
SPECIAL = [
    ipaddress.IPv4Network(text) for text in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24")
]
# RFC 6052: an IPv6 host reaches IPv4 ones through its provider's NAT64.
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(ConnectionError):
    """The name leads to a private, local or otherwise special address."""


class TooMuch(Exception):
    """The answer is larger than it may be."""


class AddressGuard:
    """Knows which addresses may be connected to: global ones, and the ranges of the config."""

    def __init__(self, allowed_private_ranges: Iterable[str] = ()) -> None:
        self._allowed: list[Network] = [ipaddress.ip_network(r) for r in allowed_private_ranges]

    def allows(self, text: str) -> bool:
        """May `text`, an IP address, be connected to? What isn't an address may not."""
        try:
            address = _reached(ipaddress.ip_address(text))
        except ValueError:
            return False
        if any(address in network for network in self._allowed):
            return True
        return _is_global(address)

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """aiohttp's socket factory: the last step before connecting. Raises AddressRefused."""
        family, kind, protocol, _, address = info
        if not self.allows(str(address[0])):
            # The same text for each address of a name: aiohttp then raises it as it is.
            raise AddressRefused("The address is private or special")
        return socket.socket(family=family, type=kind, proto=protocol)


def _reached(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_global(address: Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv6Address) and (address.sixtofour or address.teredo):
        return False  # tunnels into IPv4; nobody serves there
    return not any(address in network for network in SPECIAL)


class Trust:
    """Which certificates of other servers are believed: `context` is for `ssl=` of aiohttp.

    The system's authorities are read when they are needed first: it takes a tenth of a second.
    """

    def __init__(self, outgoing: Outgoing) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.set_alpn_protocols(("http/1.1",))
        self._is_complete = not outgoing.verify_certificates
        if outgoing.ca_file is not None:
            self.context.load_verify_locations(outgoing.ca_file)
        if not outgoing.verify_certificates:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE

    def complete(self) -> None:
        """Call this before `context` is used."""
        if not self._is_complete:
            self.context.load_default_certs()
            self._is_complete = True


def guarded_connector(
    outgoing: Outgoing,
    *,
    resolver: AbstractResolver | None = None,
    connections: int = 100,
) -> TCPConnector:
    """A connector that refuses private addresses.

    A refused connection raises ClientConnectorError (see `is_refused`). Needs a running loop.
    """
    trust = Trust(outgoing)
    guard = AddressGuard(outgoing.allowed_private_ranges)

    def open_socket(address: tuple[Any, ...]) -> socket.socket:
        trust.complete()
        return guard.open_socket(address)

    return TCPConnector(
        ssl=trust.context,
        socket_factory=open_socket,
        resolver=resolver,
        limit=connections,
    )


def guarded_session(
    outgoing: Outgoing,
    *,
    seconds: float,
    connector: TCPConnector | None = None,
    user_agent: str = USER_AGENT,
) -> ClientSession:
    """A session without cookies whose requests may take `seconds` at most, redirects included.

    Without a `connector` it has a guarded one of its own. The caller closes the session.
    """
    return ClientSession(
        connector=connector or guarded_connector(outgoing),
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=seconds, sock_connect=min(seconds, 10.0)),
        headers={"User-Agent": user_agent},
        trust_env=False,
    )


def is_refused(error: BaseException) -> bool:
    """Did a request fail because the guard refused the address?"""
    return isinstance(error, ClientConnectorError) and isinstance(error.os_error, AddressRefused)


async def read_at_most(response: ClientResponse, max_bytes: int) -> bytes:
    """The decoded body. Raises TooMuch as soon as it is larger; the connection is then dropped."""
    if (response.content_length or 0) > max_bytes:
        response.close()
        raise TooMuch(f"More than {max_bytes} bytes")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            response.close()
            raise TooMuch(f"More than {max_bytes} bytes")
    return bytes(body)
