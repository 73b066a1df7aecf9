"""What the authorization server tells of itself. client-server-api#server-metadata-discovery"""

from __future__ import annotations

from urllib.parse import urlencode

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.oauth.paths import PREFIX, local, offered, url
from homeserver.json_types import JsonObject
from homeserver.protocol.oauth.clients import GRANT_TYPES
from homeserver.protocol.oauth.requests import RESPONSE_MODES
from homeserver.services.oauth.parts import OAuthParts

ACCOUNT = "/account"
ACTIONS = (
    "org.matrix.profile",
    "org.matrix.devices_list",
    "org.matrix.device_view",
    "org.matrix.device_delete",
    "org.matrix.account_deactivate",
    "org.matrix.cross_signing_reset",
)

endpoints = Endpoints()
documents = Endpoints(prefix="", versions=(), resource=Resource.CLIENT)


@endpoints.get(
    "/auth_metadata",
    auth=Auth.NONE,
    versions=("v1",),
    unstable=("/unstable/org.matrix.msc2965/auth_metadata",),
)
async def auth_metadata(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv1auth_metadata"""
    oauth = offered(call)
    metadata = {
        "issuer": url(oauth, "/"),
        "authorization_endpoint": url(oauth, "/authorize"),
        "token_endpoint": url(oauth, "/token"),
        "registration_endpoint": url(oauth, "/clients"),
        "revocation_endpoint": url(oauth, "/revoke"),
        "response_types_supported": ["code"],
        "response_modes_supported": RESPONSE_MODES,
        "grant_types_supported": GRANT_TYPES,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "device_authorization_endpoint": url(oauth, "/device"),
        "account_management_uri": url(oauth, ACCOUNT),
        "account_management_actions_supported": ACTIONS,
    }
    if await call.parts.registration.is_possible():
        metadata["prompt_values_supported"] = ["create"]
    return metadata


@endpoints.get("/unstable/org.matrix.msc2965/auth_issuer", auth=Auth.NONE, versions=())
async def auth_issuer(call: Call) -> JsonObject:
    """MSC2965, before there was `auth_metadata`"""
    return {"issuer": url(offered(call), "/")}


@documents.get(
    f"{PREFIX}/.well-known/openid-configuration",
    also=(f"/.well-known/oauth-authorization-server{PREFIX}",),
    auth=Auth.NONE,
)
async def discovery_document(call: Call) -> JsonObject:
    """RFC 8414, section 3: the same, where those look who know only the issuer."""
    return await auth_metadata(call)


def account_path(oauth: OAuthParts, action: str, **more: str) -> str:
    """The page for one of the actions."""
    return local(oauth, f"{ACCOUNT}?{urlencode({'action': action, **more})}")


def reset_url(oauth: OAuthParts) -> str:
    """Where a user agrees that their cross-signing keys are replaced."""
    return f"{url(oauth, ACCOUNT)}?action={ACTIONS[-1]}"
