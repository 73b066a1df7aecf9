"""Where the OAuth 2.0 API is: all below one path, which reverse proxies pass on already."""

from __future__ import annotations

from urllib.parse import urlsplit

from homeserver.errors import Unrecognized
from homeserver.http.call import Call
from homeserver.services.oauth.parts import OAuthParts

PREFIX = "/_matrix/oauth2"


def offered(call: Call) -> OAuthParts:
    """Raises `Unrecognized` if the config does not offer it: none of these paths is there then."""
    oauth = call.parts.oauth
    if oauth is None:
        raise Unrecognized("This server does not offer the OAuth 2.0 API")
    return oauth


def url(oauth: OAuthParts, path: str = "") -> str:
    """The whole address of one of our paths."""
    return f"{oauth.base_url}{PREFIX}{path}"


def local(oauth: OAuthParts, path: str) -> str:
    """The same without the host, for links and forms between our own pages."""
    return f"{urlsplit(oauth.base_url).path}{PREFIX}{path}"
