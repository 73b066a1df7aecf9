"""Which server makes a request: its X-Matrix signature, and whether we talk to it at all.

server-server-api#request-authentication
"""

from __future__ import annotations

from aiohttp.web import BaseRequest

from homeserver.errors import Unauthorized
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.signatures import SignatureError
from homeserver.protocol.x_matrix import XMatrix, XMatrixError, parse_x_matrix, request_message
from homeserver.remote.access import FederationAccess
from homeserver.remote.availability import Availability
from homeserver.remote.keyring import Keyring

MAX_SIGNATURES = 3


class OriginCheck:
    """Verifies the origin of a request: a `CheckOrigin` of the middleware."""

    def __init__(
        self,
        server_name: str,
        keyring: Keyring,
        access: FederationAccess,
        availability: Availability,
    ) -> None:
        self._server_name = server_name
        self._keyring = keyring
        self._access = access
        self._availability = availability

    async def __call__(self, request: BaseRequest, content: JsonObject | None) -> str:
        """The origin. Raises Unauthorized, or Forbidden for a server that is not welcome."""
        signatures = self._read(request)
        origin = signatures[0].origin
        self._access.check(origin)
        for signature in signatures:
            try:
                await self._verify(signature, request, content)
            except (SignatureError, CanonicalJsonError) as error:
                problem = str(error)
            else:
                self._availability.is_there(origin)
                return origin
        raise Unauthorized(f"The request's signature is not valid: {problem}")

    def _read(self, request: BaseRequest) -> list[XMatrix]:
        """The header may come once for each key of the origin."""
        headers = request.headers.getall("Authorization", [])
        if not headers:
            raise Unauthorized("The request is not signed (Authorization: X-Matrix ...)")
        try:
            signatures = [parse_x_matrix(header) for header in headers[:MAX_SIGNATURES]]
        except XMatrixError as error:
            raise Unauthorized(f"The request's signature can't be read: {error}") from None
        for signature in signatures:
            if signature.origin != signatures[0].origin:
                raise Unauthorized("The request is signed by two servers")
            # "If this property is included, but the value does not match the receiving server's
            # name, the receiving server must deny the request with an HTTP status code 401."
            if signature.destination not in (None, self._server_name):
                raise Unauthorized(f"The request is for {signature.destination}, not for us")
        return signatures

    async def _verify(
        self, signature: XMatrix, request: BaseRequest, content: JsonObject | None
    ) -> None:
        message = request_message(
            request.method, request.raw_path, signature.origin, signature.destination, content
        )
        await self._keyring.verify_request(
            signature.origin, signature.key_id, signature.signature, message
        )
