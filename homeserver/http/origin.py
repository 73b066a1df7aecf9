"""Which server makes a request: its X-Matrix signature, and whether we talk to it at all.

server-server-api#request-authentication
"""

from __future__ import annotations

from functools import partial

from aiohttp.web import BaseRequest

from homeserver.errors import Unauthorized
from homeserver.http.authentication import CheckOrigin
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.signatures import SignatureError
from homeserver.protocol.x_matrix import XMatrix, XMatrixError, parse_x_matrix, request_message
from homeserver.remote.access import FederationAccess
from homeserver.remote.availability import Availability
from homeserver.remote.keyring import Keyring
from homeserver.remote.strangers import Strangers

MAX_SIGNATURES = 3


class Origins:
    """Verifies the origins of requests."""

    def __init__(
        self,
        server_name: str,
        keyring: Keyring,
        access: FederationAccess,
        availability: Availability,
        strangers: Strangers,
    ) -> None:
        self._server_name = server_name
        self._keyring = keyring
        self._access = access
        self._availability = availability
        self._strangers = strangers

    async def admit(self, request: BaseRequest, address: str) -> CheckOrigin:
        """An `AdmitOrigin` of the middleware: nobody's body is read whose key can't be had.

        Raises Unauthorized, Forbidden for a server that is not welcome, or LimitExceeded.
        """
        signatures = self._read(request)
        origin = signatures[0].origin
        self._access.check(origin)
        key_ids = [signature.key_id for signature in signatures]
        if not await self._keyring.is_known(origin, key_ids):
            with self._strangers.place(origin, address):
                if not await self._keyring.meet(origin, key_ids):
                    self._strangers.is_nobody(origin)
                    raise Unauthorized(f"The keys of {origin} can't be had")
        return partial(self._check, request, signatures)

    async def _check(
        self, request: BaseRequest, signatures: list[XMatrix], content: JsonObject | None
    ) -> str:
        """The origin, if one of the signatures is right. Raises Unauthorized."""
        for signature in signatures:
            try:
                await self._verify(signature, request, content)
            except (SignatureError, CanonicalJsonError) as error:
                problem = str(error)
            else:
                self._availability.is_there(signature.origin)
                return signature.origin
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
