"""Where another server is: from its name to addresses, certificates and the Host header.

Rules of this file: the numbered steps are the specification's; nothing here connects to a
homeserver, except for its .well-known. What is learned is cached as long as the specification
allows; two askers of one name share one look-up.
server-server-api#resolving-server-names
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address

import aiodns
import aiodns.error
import pycares
from msgspec import Struct

from homeserver.lru_cache import LruCache
from homeserver.protocol.identifiers import is_server_name
from homeserver.remote.well_known import WellKnown

DEFAULT_PORT = 8448
SRV_SECONDS = 10.0
MAX_SRV_SECONDS = 3600.0
MIN_SRV_SECONDS = 30.0
CACHED_NAMES = 10_000


class ResolutionError(Exception):
    """The server can't be found; the text says why."""


class Target(Struct, frozen=True):
    """One place to connect to. `host` is a host name or an IP literal without brackets."""

    host: str
    port: int
    host_header: str
    certificate_name: str
    """The name (or address) for which the server must show a certificate; sent as SNI."""


class SrvRecord(Struct, frozen=True):
    """One answer of an SRV look-up; `seconds` is its time to live."""

    host: str
    port: int
    priority: int
    weight: int
    seconds: float


LookupSrv = Callable[[str], Awaitable[Sequence[SrvRecord]]]
"""The records of a name, none if there are none. Raises ResolutionError if nobody can tell."""


class Resolution:
    """Turns server names into targets. `overrides` is the config's `federation.resolve`."""

    def __init__(
        self,
        well_known: WellKnown,
        lookup_srv: LookupSrv,
        overrides: Mapping[str, str],
        monotonic: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._well_known = well_known
        self._lookup_srv = lookup_srv
        self._overrides = overrides
        self._monotonic = monotonic
        self._chance = chance
        self._srv: LruCache[str, tuple[float, Sequence[SrvRecord]]] = LruCache(CACHED_NAMES)

    async def targets(self, server_name: str) -> list[Target]:
        """Where the server may be, the best place first. Raises ResolutionError."""
        if not is_server_name(server_name):
            raise ResolutionError(f"{server_name!r} is not a server name")
        override = self._overrides.get(server_name)
        if override is not None:
            host, port = split_server_name(override)
            certificate_name = split_server_name(server_name)[0]
            return [Target(host, port or DEFAULT_PORT, server_name, certificate_name)]
        host, port = split_server_name(server_name)
        # "1. If the hostname is an IP literal, then that IP address should be used, together with
        # the given port number, or 8448 if no port is given. [...] The `Host` header in the request
        # should be set to the server name, including the port if the server name included one."
        # "2. If the hostname is not an IP literal, and the server name includes an explicit port,
        # resolve the hostname [...] with a `Host` header of the original server name (with port)."
        if is_ip_literal(host) or port is not None:
            return [Target(host, port or DEFAULT_PORT, server_name, host)]
        # Step 3: "a regular HTTPS request is made to https://<hostname>/.well-known/matrix/server"
        delegated = await self._well_known.delegated_name(host)
        if delegated is not None:
            return await self._delegated(delegated)
        # "4. If the /.well-known request resulted in an error response, a server is found by
        # resolving an SRV record for _matrix-fed._tcp.<hostname>." 5 and 6 follow.
        return await self._by_srv(host)

    async def _delegated(self, delegated: str) -> list[Target]:
        host, port = split_server_name(delegated)
        # Steps 3.1 and 3.2: "If <delegated_hostname> is an IP literal, then that IP address should
        # be used together with the <delegated_port> or 8448 if no port is provided."
        if is_ip_literal(host) or port is not None:
            return [Target(host, port or DEFAULT_PORT, delegated, host)]
        # Steps 3.3 to 3.5 are the steps 4 to 6 for the <delegated_hostname>.
        return await self._by_srv(host)

    async def _by_srv(self, host: str) -> list[Target]:
        for service in ("_matrix-fed", "_matrix"):  # the second one is deprecated
            records = await self._records(f"{service}._tcp.{host}")
            if records:
                # "[...] a `Host` header of <hostname>. The target server must present a valid
                # certificate for <hostname>."
                return [Target(r.host, r.port, host, host) for r in self._in_order(records)]
        # Step 6: "Requests are made to the resolved IP address using port 8448"
        return [Target(host, DEFAULT_PORT, host, host)]

    async def _records(self, name: str) -> Sequence[SrvRecord]:
        cached = self._srv.get(name)
        now = self._monotonic()
        if cached is not None and cached[0] > now:
            return cached[1]
        try:
            records = await self._lookup_srv(name)
        except ResolutionError:
            if cached is not None:
                return cached[1]
            raise
        lifetime = min((record.seconds for record in records), default=MIN_SRV_SECONDS)
        lifetime = max(MIN_SRV_SECONDS, min(lifetime, MAX_SRV_SECONDS))
        self._srv.put(name, (now + lifetime, records))
        return records

    def _in_order(self, records: Sequence[SrvRecord]) -> list[SrvRecord]:
        """RFC 2782: lower priority first; among equals, chosen by weight."""
        ordered = []
        left = sorted(records, key=lambda record: (record.priority, record.weight))
        while left:
            best = [record for record in left if record.priority == left[0].priority]
            point = self._chance() * sum(record.weight for record in best)
            for record in best:
                point -= record.weight
                if point <= 0:
                    break
            ordered.append(record)
            left.remove(record)
        return ordered


def split_server_name(server_name: str) -> tuple[str, int | None]:
    """Host and port of a valid server name; an IPv6 literal loses its brackets.

    Raises ResolutionError for a port that no server can have: the grammar allows any five digits.
    """
    if server_name.startswith("["):
        host, _, rest = server_name[1:].partition("]")
        digits = rest[1:]
    else:
        host, _, digits = server_name.partition(":")
    if not digits:
        return host, None
    if not 0 < int(digits) < 65_536:
        raise ResolutionError(f"{server_name} has no possible port")
    return host, int(digits)


def is_ip_literal(host: str) -> bool:
    """Whether it is an IPv4 or (without brackets) IPv6 address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Dns:
    """SRV look-ups with the system's name servers."""

    _NOT_FOUND = (pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_ENODATA)

    def __init__(self) -> None:
        self._resolver = aiodns.DNSResolver(timeout=3.0, tries=3)

    async def srv(self, name: str) -> list[SrvRecord]:
        """The SRV records of a name. Raises ResolutionError."""
        try:
            async with asyncio.timeout(SRV_SECONDS):
                result = await self._resolver.query_dns(name, "SRV")
        except aiodns.error.DNSError as error:
            if error.args and error.args[0] in self._NOT_FOUND:
                return []
            raise ResolutionError(f"no answer about {name}: {error}") from None
        except TimeoutError:
            raise ResolutionError(f"no answer about {name} in time") from None
        return [
            SrvRecord(
                record.data.target.rstrip("."),
                record.data.port,
                record.data.priority,
                record.data.weight,
                float(record.ttl),
            )
            for record in result.answer
            # RFC 2782: "A Target of "." means that the service is decidedly not available"
            if isinstance(record.data, pycares.SRVRecordData) and record.data.target.rstrip(".")
        ]

    async def close(self) -> None:
        await self._resolver.close()
