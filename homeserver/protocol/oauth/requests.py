"""What clients ask for: scopes, authorization requests, and the proof that they asked (PKCE).

client-server-api#login-flows, RFC 6749, RFC 7636
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from msgspec import Struct

from homeserver.errors import OAuthError

# The names of the specification, and of MSC2967 before it was part of that.
API_SCOPES = ("urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*")
DEVICE_SCOPES = ("urn:matrix:client:device:", "urn:matrix:org.matrix.msc2967.client:device:")
RESPONSE_MODES = ("query", "fragment")
MAX_STATE = 2_000
_DEVICE_ID = re.compile(r"[!#-\[\]-~]{1,255}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class Scope(Struct, frozen=True):
    """What a client may do: everything, as this device. `text` has the names that it used."""

    device_id: str
    text: str


class AuthorizationRequest(Struct, frozen=True):
    """What a client asks a user for, to be answered at `redirect_uri`."""

    scope: Scope
    code_challenge: str
    creates: bool
    """The user wants a new account."""


class Callback(Struct, frozen=True):
    """Where and how an authorization request is answered."""

    redirect_uri: str
    response_mode: str
    state: str | None

    def url(self, answer: Mapping[str, str]) -> str:
        """The address that tells the client the answer."""
        state = {} if self.state is None else {"state": self.state}
        parameters = urlencode({**state, **answer})
        if self.response_mode == "fragment":
            return f"{self.redirect_uri}#{parameters}"
        return f"{self.redirect_uri}{'&' if '?' in self.redirect_uri else '?'}{parameters}"


def single(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The parameters by name, without empty ones. Raises OAuthError if one is there twice."""
    found: dict[str, str] = {}
    for name, value in pairs:
        # "Request and response parameters MUST NOT be included more than once."
        if name in found:
            raise OAuthError("invalid_request", "A parameter is there more than once")
        # "Parameters sent without a value MUST be treated as if they were omitted"
        if value:
            found[name] = value
    return found


def callback(parameters: Mapping[str, str], redirect_uri: str) -> Callback:
    """Where this request is answered: even a wrong one, in one of the two ways."""
    mode = parameters.get("response_mode", "query")
    state = parameters.get("state", "")[:MAX_STATE]
    return Callback(redirect_uri, mode if mode in RESPONSE_MODES else "query", state or None)


def authorization_request(parameters: Mapping[str, str]) -> AuthorizationRequest:
    """Raises OAuthError with what the client is told at its callback."""
    if parameters.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "response_type must be code")
    if parameters.get("response_mode", "query") not in RESPONSE_MODES:
        raise OAuthError("invalid_request", "response_mode must be query or fragment")
    if len(parameters.get("state", "")) > MAX_STATE:
        raise OAuthError("invalid_request", f"state has at most {MAX_STATE} characters")
    if parameters.get("code_challenge_method") != "S256":
        raise OAuthError("invalid_request", "PKCE is needed: code_challenge_method must be S256")
    challenge = parameters.get("code_challenge", "")
    if _CHALLENGE.fullmatch(challenge) is None:
        raise OAuthError("invalid_request", "code_challenge must be a SHA-256 in base64url")
    prompts = parameters.get("prompt", "").split(" ")
    if "none" in prompts:
        raise OAuthError("login_required", "Nobody logs in here without seeing a page")
    scope = requested_scope(parameters.get("scope", ""))
    return AuthorizationRequest(scope, challenge, "create" in prompts)


def requested_scope(text: str) -> Scope:
    """The scope that is given for a requested one. Raises OAuthError `invalid_scope`.

    Other names (such as `openid`) are left out, as RFC 6749 (section 3.3) allows.
    """
    tokens = list(dict.fromkeys(text.split(" ")))
    apis = [token for token in tokens if token in API_SCOPES]
    devices = [token for token in tokens if token.startswith(DEVICE_SCOPES)]
    device_ids = {token.partition(":device:")[2] for token in devices}
    if not apis:
        raise OAuthError("invalid_scope", f"The scope must include {API_SCOPES[0]}")
    # "There MUST be exactly one `urn:matrix:client:device:<device_id>` token": under both names,
    # it is one.
    if len(device_ids) != 1:
        raise OAuthError("invalid_scope", f"The scope must include {DEVICE_SCOPES[0]}... once")
    device_id = device_ids.pop()
    if _DEVICE_ID.fullmatch(device_id) is None:
        raise OAuthError("invalid_scope", "The device id has characters that a scope can't have")
    return Scope(device_id, " ".join([*apis, *devices]))


def proves(code_verifier: str, code_challenge: str) -> bool:
    """Whether who has the verifier made the request with this challenge (RFC 7636, S256)."""
    if _VERIFIER.fullmatch(code_verifier) is None:
        return False
    digest = hashlib.sha256(code_verifier.encode()).digest()
    expected = base64.urlsafe_b64encode(digest).rstrip(b"=")
    return hmac.compare_digest(expected, code_challenge.encode())
