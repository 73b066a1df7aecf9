"""What the OAuth 2.0 API is made of."""

from __future__ import annotations

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.services.oauth.browsers import Browsers
from homeserver.services.oauth.clients import Clients
from homeserver.services.oauth.codes import Codes
from homeserver.services.oauth.device_codes import DeviceCodes
from homeserver.services.oauth.resets import CrossSigningResets
from homeserver.store.database import Database


class OAuthParts(Struct, frozen=True):
    """`base_url` is where people and clients reach this server."""

    base_url: str
    clients: Clients
    codes: Codes
    device_codes: DeviceCodes
    resets: CrossSigningResets
    browsers: Browsers


def oauth_parts(config: Config, database: Database, clock: Clock) -> OAuthParts | None:
    """None if the config doesn't offer it."""
    if not config.oauth.enabled or config.public_baseurl is None:
        return None
    return OAuthParts(
        base_url=config.public_baseurl.rstrip("/"),
        clients=Clients(database, clock),
        codes=Codes(clock),
        device_codes=DeviceCodes(clock),
        resets=CrossSigningResets(clock),
        browsers=Browsers(database, clock, config.oauth.browser_session_lifetime * 1000),
    )
