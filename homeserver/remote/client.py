"""Signed requests to other servers.

Rules of this file: whatever fails ends as `Unreachable` or `RemoteRefusal`; an answer is read up
to a size and a time; one destination never holds more than `AT_ONCE` requests of ours; names are
resolved here, so that callers deal in server names only.
server-server-api#request-authentication
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from homeserver.json_types import BAD_JSON, JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError, encode_lenient
from homeserver.protocol.signatures import Signer
from homeserver.protocol.x_matrix import authorization
from homeserver.remote.access import FederationAccess
from homeserver.remote.availability import Availability
from homeserver.remote.errors import RemoteRefusal, Unreachable
from homeserver.remote.guarded_client import TooMuch, is_refused, read_at_most
from homeserver.remote.resolution import Resolution, ResolutionError, Target

AT_ONCE = 12
SECONDS = 30.0
MAX_BYTES = 32 * 1024 * 1024
MAX_ERROR_BYTES = 65_536
IN_A_THREAD_BYTES = 1_000_000

Query = Sequence[tuple[str, str]]
Answer = TypeVar("Answer", bound=Struct)

_FAILURES = (aiohttp.ClientError, OSError, TooMuch)  # a TimeoutError is an OSError


class Terms(Struct, frozen=True, kw_only=True):
    """How far a request may go. `ignore_backoff`: ask even a server that didn't answer lately."""

    seconds: float = SECONDS
    max_bytes: int = MAX_BYTES
    ignore_backoff: bool = False


DEFAULT_TERMS = Terms()


def path_to(endpoint: str, *segments: str, query: Query = ()) -> str:
    """`/_matrix/...` with the encoded segments and query: what is signed and sent."""
    path = "/".join((endpoint, *(quote(segment, safe="") for segment in segments)))
    return f"{path}?{urlencode(query)}" if query else path


class FederationClient:
    """Asks other servers. `session` is the guarded one."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        resolution: Resolution,
        signer: Signer,
        availability: Availability,
        access: FederationAccess,
    ) -> None:
        self._session = session
        self._resolution = resolution
        self._signer = signer
        self._availability = availability
        self._access = access
        self._places: dict[str, _Places] = {}

    async def get(self, destination: str, path: str, terms: Terms = DEFAULT_TERMS) -> JsonObject:
        """The answer's JSON object. Raises Unreachable or RemoteRefusal, as all of these do."""
        return await self._json(destination, "GET", path, None, terms)

    async def put(
        self, destination: str, path: str, content: JsonObject, terms: Terms = DEFAULT_TERMS
    ) -> JsonObject:
        return await self._json(destination, "PUT", path, content, terms)

    async def put_canonical(
        self, destination: str, path: str, content: bytes, terms: Terms = DEFAULT_TERMS
    ) -> JsonObject:
        """A PUT of a body that is canonical JSON already."""
        return await self._json(destination, "PUT", path, content, terms)

    async def post(
        self, destination: str, path: str, content: JsonObject, terms: Terms = DEFAULT_TERMS
    ) -> JsonObject:
        return await self._json(destination, "POST", path, content, terms)

    async def get_as(
        self, destination: str, path: str, kind: type[Answer], terms: Terms = DEFAULT_TERMS
    ) -> Answer:
        """The answer of a GET as a Struct: what is `Raw` in it is not parsed."""
        call = _Call(destination, "GET", path, None)
        return await self._as(call, kind, terms)

    async def put_as(
        self,
        destination: str,
        path: str,
        content: JsonObject,
        kind: type[Answer],
        terms: Terms = DEFAULT_TERMS,
    ) -> Answer:
        """The answer of a PUT as a Struct."""
        call = _Call(destination, "PUT", path, content)
        return await self._as(call, kind, terms)

    async def _as(self, call: _Call, kind: type[Answer], terms: Terms) -> Answer:
        async with self.open(call, terms) as response:
            body = await read_at_most(response, terms.max_bytes)
        try:
            answer: Answer = await _decoded(body, kind)
        except BAD_JSON:
            raise Unreachable(call.destination, "its answer is not what was asked for") from None
        return answer

    async def _json(
        self,
        destination: str,
        method: str,
        path: str,
        content: JsonObject | bytes | None,
        terms: Terms,
    ) -> JsonObject:
        call = _Call(destination, method, path, content)
        async with self.open(call, terms) as response:
            body = await read_at_most(response, terms.max_bytes)
        try:
            answer = await _decoded(body, Any)
        except BAD_JSON:
            raise Unreachable(destination, "its answer is not JSON") from None
        # /v1/send_join and the like of old answer [200, {...}]
        if isinstance(answer, list) and len(answer) == 2 and isinstance(answer[1], dict):
            answer = answer[1]
        if not isinstance(answer, dict):
            raise Unreachable(destination, "its answer is not a JSON object")
        return answer

    @asynccontextmanager
    async def open_get(
        self, destination: str, path: str, terms: Terms = DEFAULT_TERMS
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The open response (status 200) of a GET, for what isn't JSON."""
        async with self.open(_Call(destination, "GET", path, None), terms) as response:
            yield response

    @asynccontextmanager
    async def open(self, call: _Call, terms: Terms) -> AsyncIterator[aiohttp.ClientResponse]:
        destination = call.destination
        self._access.check(destination)
        if not terms.ignore_backoff and self._availability.is_backing_off(destination):
            raise Unreachable(destination, "it did not answer lately")
        try:
            async with (
                asyncio.timeout(terms.seconds),
                self._place(destination),
                self._answered(call) as response,
            ):
                yield response
        except ResolutionError as error:
            self._availability.failed(destination)
            raise Unreachable(destination, str(error)) from None
        except _FAILURES as error:
            self._availability.failed(destination)
            raise Unreachable(destination, _reason(error)) from error

    @asynccontextmanager
    async def _answered(self, call: _Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response with status 200, from the first target that can be connected to."""
        response = await self._connected(call)
        async with response:
            if response.status != 200:
                await self._refuse(call.destination, response)
            self._availability.is_there(call.destination)
            yield response

    async def _connected(self, call: _Call) -> aiohttp.ClientResponse:
        targets = await self._resolution.targets(call.destination)
        headers, data = self._signed(call)
        for target in targets[:-1]:
            try:
                return await self._request(call, target, headers, data)
            except aiohttp.ClientConnectorError:
                continue
        return await self._request(call, targets[-1], headers, data)

    def _signed(self, call: _Call) -> tuple[dict[str, str], bytes | None]:
        try:
            header = authorization(
                self._signer, call.method, call.path, call.destination, call.content
            )
        except CanonicalJsonError as error:
            raise Unreachable(call.destination, f"the request can't be signed: {error}") from None
        headers = {"Authorization": header}
        if call.content is None:
            return headers, None
        headers["Content-Type"] = "application/json"
        body = call.content
        return headers, body if isinstance(body, bytes) else encode_lenient(body)

    async def _request(
        self, call: _Call, target: Target, headers: dict[str, str], data: bytes | None
    ) -> aiohttp.ClientResponse:
        return await self._session.request(
            call.method,
            target_url(target, call.path),
            headers={**headers, "Host": target.host_header},
            data=data,
            server_hostname=target.certificate_name,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
        )

    async def _refuse(self, destination: str, response: aiohttp.ClientResponse) -> None:
        """Raises RemoteRefusal with what the server says."""
        try:
            body = await _decoded(await read_at_most(response, MAX_ERROR_BYTES), Any)
        except (*BAD_JSON, TooMuch):
            body = {}
        body = body if isinstance(body, dict) else {}
        refusal = RemoteRefusal(destination, response.status, body)
        if refusal.is_trouble:
            self._availability.failed(destination)
        else:
            self._availability.is_there(destination)
        raise refusal

    @asynccontextmanager
    async def _place(self, destination: str) -> AsyncIterator[None]:
        """One of the destination's places; gone from memory when nobody is in one."""
        places = self._places.setdefault(destination, _Places())
        places.users += 1
        try:
            async with places.semaphore:
                yield
        finally:
            places.users -= 1
            if not places.users:
                self._places.pop(destination, None)


class _Call(Struct, frozen=True):
    destination: str
    method: str
    path: str
    content: JsonObject | bytes | None


class _Places:
    __slots__ = ("semaphore", "users")

    def __init__(self) -> None:
        self.semaphore = asyncio.Semaphore(AT_ONCE)
        self.users = 0


def target_url(target: Target, path: str) -> URL:
    """Where the request goes; `path` stays as it is encoded."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    return URL(f"https://{host}:{target.port}{path}", encoded=True)


async def _decoded(body: bytes, kind: Any) -> Any:
    """JSON of a type. Raises BAD_JSON."""
    if len(body) < IN_A_THREAD_BYTES:
        return msgspec.json.decode(body, type=kind)
    return await asyncio.to_thread(msgspec.json.decode, body, type=kind)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if is_refused(error):
        return "its address is a private one"
    return str(error) or type(error).__name__
