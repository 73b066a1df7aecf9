"""Who makes a request, as the access token told: all that the floors below `http/` learn of it."""

from __future__ import annotations

from msgspec import Struct


class Requester(Struct, frozen=True):
    """A local user at one of their devices.

    `device_id` is None for application services that act without a device. `app_service` is the
    id of the application service whose token was used. `token_hash` names the access token in
    the store (never the token itself). `by_oauth`: the device was logged in by OAuth 2.0.
    """

    user_id: str
    device_id: str | None
    is_guest: bool = False
    is_admin: bool = False
    is_suspended: bool = False
    is_locked: bool = False
    app_service: str | None = None
    token_hash: bytes = b""
    is_rate_limited: bool = True
    by_oauth: bool = False
