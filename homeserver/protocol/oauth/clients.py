"""The metadata with which clients register, and the addresses to which they may be answered.

client-server-api#client-metadata, client-server-api#redirect-uri-validation, RFC 7591
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Struct

from homeserver.errors import OAuthError
from homeserver.json_types import JsonObject

AUTHORIZATION_CODE = "authorization_code"
REFRESH_TOKEN = "refresh_token"  # noqa: S105 - its name
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
GRANT_TYPES = (AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_URIS = 20
MAX_NAME = 100
_URI = re.compile(r"[!$-;=?-Z\[\]_a-z~]{1,2000}")
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")


class Asked(Struct, frozen=True):
    """What a client says of itself; what we don't know is passed over, translations too."""

    client_uri: str
    application_type: str = "web"
    redirect_uris: tuple[str, ...] = ()
    grant_types: tuple[str, ...] = (AUTHORIZATION_CODE, REFRESH_TOKEN)
    response_types: tuple[str, ...] = ("code",)
    token_endpoint_auth_method: str = "none"  # noqa: S105 - no password
    client_name: str | None = None
    logo_uri: str | None = None
    tos_uri: str | None = None
    policy_uri: str | None = None


class Metadata(Struct, frozen=True, omit_defaults=True):
    """What is registered of a client, checked. The required fields are told to the client even if
    it left them out."""

    client_uri: str
    application_type: str
    redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    response_types: tuple[str, ...]
    token_endpoint_auth_method: str
    client_name: str | None = None
    logo_uri: str | None = None
    tos_uri: str | None = None
    policy_uri: str | None = None

    @property
    def host(self) -> str:
        """Whose client it is."""
        return urlsplit(self.client_uri).hostname or ""

    @property
    def name(self) -> str:
        """What people are told that it is."""
        return self.client_name or self.host

    def allows_redirect(self, uri: str) -> bool:
        """Whether the client may be answered there."""
        if uri in self.redirect_uris:
            return True
        # "There MUST NOT be a port. The homeserver MUST then accept any port number during the
        # authorisation flow."
        portless = _without_port(uri) if self.application_type == "native" else None
        return portless is not None and portless in self.redirect_uris


def checked_metadata(body: JsonObject) -> Metadata:
    """What is registered for the body of a registration request.

    Raises OAuthError: `invalid_redirect_uri` or `invalid_client_metadata`.
    """
    try:
        asked = msgspec.convert(body, Asked)
    except msgspec.ValidationError as error:
        raise _invalid(_ascii(str(error))) from None
    if asked.application_type not in ("web", "native"):
        raise _invalid("application_type must be web or native")
    if asked.token_endpoint_auth_method != "none":  # noqa: S105 - no password
        raise _invalid("token_endpoint_auth_method must be none: clients have no secret here")
    host = _base_host(asked.client_uri)
    for name in ("logo_uri", "tos_uri", "policy_uri"):
        uri = getattr(asked, name)
        if uri is not None and not _is_https_below(uri, host):
            raise _invalid(f"{name} must be an https URI on the host of client_uri or below it")
    # "The server MUST ignore values that it does not understand."
    grant_types = tuple(grant for grant in GRANT_TYPES if grant in asked.grant_types)
    response_types = tuple(sorted({"code"} & set(asked.response_types)))
    _check_redirects(asked, host)
    if AUTHORIZATION_CODE in grant_types:
        if not response_types:
            raise _invalid("response_types must include code for the authorization code grant")
        if not asked.redirect_uris:
            raise _bad_redirect("The authorization code grant needs redirect_uris")
    elif DEVICE_CODE not in grant_types:
        raise _invalid("grant_types has nothing with which this server lets anybody log in")
    return Metadata(
        client_uri=asked.client_uri,
        application_type=asked.application_type,
        redirect_uris=tuple(dict.fromkeys(asked.redirect_uris)),
        grant_types=grant_types,
        response_types=response_types,
        token_endpoint_auth_method="none",  # noqa: S106 - no password
        client_name=_shown(asked.client_name),
        logo_uri=asked.logo_uri,
        tos_uri=asked.tos_uri,
        policy_uri=asked.policy_uri,
    )


def _base_host(client_uri: str) -> str:
    """The host that all the client's other URIs have in common."""
    parts = _split(client_uri)
    host = "" if parts is None else _https_host(parts)
    if not host:
        raise _invalid("client_uri must be an https URI without user and password")
    if "." not in host:  # nobody owns `com`
        raise _invalid("client_uri must have a host with a domain")
    return host


def _check_redirects(asked: Asked, host: str) -> None:
    if len(asked.redirect_uris) > MAX_URIS:
        raise _bad_redirect(f"A client has at most {MAX_URIS} redirect_uris")
    for uri in asked.redirect_uris:
        # "the redirect URI MUST NOT have a fragment component": _split takes none
        if _is_https_below(uri, host):
            continue
        if asked.application_type != "native":
            raise _bad_redirect("A web client's redirect URIs are https URIs below its client_uri")
        if not _is_private_use(uri, host) and _loopback(uri, with_port=False) is None:
            raise _bad_redirect(
                "A native client's redirect URIs are https URIs below its client_uri, have a scheme"
                " that is the reversed host of client_uri and no authority, or are http on the"
                " loopback interface without a port"
            )


def _is_https_below(uri: str, host: str) -> bool:
    parts = _split(uri)
    below = "" if parts is None else _https_host(parts)
    return below == host or below.endswith("." + host)


def _https_host(parts: SplitResult) -> str:
    """The host of an https URI; "" if it isn't one, or has "a user or password"."""
    host = parts.hostname or ""
    if parts.scheme != "https" or "@" in parts.netloc or _HOST.fullmatch(host) is None:
        return ""
    return host


def _is_private_use(uri: str, host: str) -> bool:
    """ "The scheme MUST be prefixed with the client URI hostname in reverse-DNS notation." """
    parts = _split(uri)
    if parts is None or uri.partition(":")[2].startswith("//"):
        return False
    prefix = ".".join(reversed(host.split(".")))
    return parts.scheme == prefix or parts.scheme.startswith(prefix + ".")


def _loopback(uri: str, with_port: bool) -> SplitResult | None:
    """The parts of an http URI on the loopback interface, which must or must not have a port."""
    parts = _split(uri)
    if parts is None or parts.scheme != "http" or "@" in parts.netloc:
        return None
    has_port = parts.netloc.rpartition("]")[2].find(":") >= 0
    return parts if parts.hostname in LOOPBACK and has_port is with_port else None


def _without_port(uri: str) -> str | None:
    parts = _loopback(uri, with_port=True)
    if parts is None:
        return None
    name = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return uri.replace(parts.netloc, str(name), 1)


def _split(uri: str) -> SplitResult | None:
    """The parts of a URI; None if it isn't one, or has a fragment."""
    if _URI.fullmatch(uri) is None:
        return None
    try:
        parts = urlsplit(uri)
        _ = parts.port  # raises for what isn't a number
    except ValueError:
        return None
    return parts if parts.scheme else None


def _shown(name: str | None) -> str | None:
    """A name without characters that nobody sees, or that turn the text around."""
    return "".join(filter(str.isprintable, name or ""))[:MAX_NAME].strip() or None


def _ascii(text: str) -> str:
    """What an `error_description` may have (RFC 6749, section 5.2)."""
    return re.sub(r'[^ -~]|["\\]', "'", text)


def _invalid(description: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", description)


def _bad_redirect(description: str) -> OAuthError:
    return OAuthError("invalid_redirect_uri", description)
