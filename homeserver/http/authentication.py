"""Who calls: the access token of a client's request, the signature of another server's.

client-server-api#client-authentication
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp.web import BaseRequest

from homeserver.errors import (
    Forbidden,
    GuestAccessForbidden,
    MissingToken,
    Unrecognized,
    UserLocked,
    UserSuspended,
)
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Declaration
from homeserver.json_types import JsonObject
from homeserver.requester import Requester

CheckOrigin = Callable[[JsonObject | None], Awaitable[str]]
"""Verifies a request's X-Matrix signature over its method, URI and body; gives the origin."""

AdmitOrigin = Callable[[BaseRequest, str], Awaitable[CheckOrigin]]
"""Looks who claims to make a request (from an address), before its body is read."""

Seen = Callable[[Requester, str, str | None], None]
"""Is told of each request of a user: from which address, with which user agent."""


class Sessions(Protocol):
    """What authentication needs of the sessions: whose token is this?"""

    def known_requester(self, token: str) -> Requester | None:
        """From memory, or None: then `find_requester` may still know it."""

    async def find_requester(self, token: str) -> Requester:
        """Raises `UnknownToken`."""


AppServiceRequester = Callable[[str, str | None, str | None], Awaitable[Requester | None]]
"""Token, asserted user id and device id -> the requester; None: no application service's token."""


def bearer_token(request: BaseRequest, query_tokens: bool) -> str | None:
    """The access token of a request, if it has one. Raises `MissingToken` if it is ill-formed."""
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise MissingToken("The Authorization header must be: Bearer <access token>")
        return token.strip()
    return request.query.get("access_token") if query_tokens else None


def _is_signed(request: BaseRequest) -> bool:
    """Whether another server asks, as those from before v1.11 do at the old paths of media: they
    sign all their requests, and are nobody there."""
    return request.headers.get("Authorization", "")[:9].lower() == "x-matrix "


class Authentication:
    """Turns the credentials of a request into a requester, and holds them against the route."""

    def __init__(
        self,
        sessions: Sessions,
        app_service: AppServiceRequester,
        seen: Seen,
        query_tokens: bool,
    ) -> None:
        self._sessions = sessions
        self._app_service = app_service
        self._seen = seen
        self._query_tokens = query_tokens

    async def requester(self, call: Call, declaration: Declaration) -> Requester | None:
        """The caller, or None if there is no token and the route can do without.

        Raises `MissingToken`, `UnknownToken`, `UserLocked`, and `Forbidden`, `UserSuspended`,
        `Unrecognized` or `GuestAccessForbidden` if the route isn't for them.
        """
        if declaration.auth is Auth.OPTIONAL and _is_signed(call.request):
            return None
        token = bearer_token(call.request, self._query_tokens)
        if token is None:
            if declaration.auth is Auth.OPTIONAL:
                return None
            raise MissingToken("The request has no access token (Authorization: Bearer ...)")
        requester = self._sessions.known_requester(token)
        if requester is None:
            requester = await self._of_app_service(call, token)
        if requester is None:
            requester = await self._sessions.find_requester(token)
        # A locked account gets 401 M_USER_LOCKED for everything but logging out.
        if requester.is_locked and not declaration.even_if_locked:
            raise UserLocked("This account is locked", soft_logout=True)
        if requester.is_suspended and declaration.not_if_suspended:
            raise UserSuspended("You cannot do this while your account is suspended")
        if requester.by_oauth and declaration.not_by_oauth:
            raise Unrecognized("Devices logged in by OAuth 2.0 do this on the server's web pages")
        _check(declaration.auth, requester)
        self._seen(requester, call.address, call.request.headers.get("User-Agent"))
        return requester

    async def _of_app_service(self, call: Call, token: str) -> Requester | None:
        device_id = call.query("device_id") or call.query("org.matrix.msc3202.device_id")
        return await self._app_service(token, call.query("user_id"), device_id)


def _check(auth: Auth, requester: Requester) -> None:
    if requester.is_guest and auth in {Auth.USER, Auth.ADMIN}:
        raise GuestAccessForbidden("Guests may not do this")
    if auth is Auth.ADMIN and not requester.is_admin:
        raise Forbidden("Only a server admin may do this")
    if auth is Auth.APP_SERVICE and requester.app_service is None:
        raise Forbidden("Only an application service may do this")
