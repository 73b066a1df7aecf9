"""What the server tells of itself under `/.well-known/matrix/`, and to those who log in.

client-server-api#well-known-uris
"""

from __future__ import annotations

from homeserver.config import Config
from homeserver.errors import NotFound
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject

endpoints = Endpoints(prefix="/.well-known/matrix", versions=(), resource=Resource.COMMON)


def client_configuration(config: Config) -> JsonObject | None:
    """What clients should know of this server, if the config has it served."""
    served = config.well_known.client
    if served is None:
        served = config.public_baseurl is not None
    if not served or config.public_baseurl is None:
        return None
    answer: JsonObject = {"m.homeserver": {"base_url": config.public_baseurl}}
    if config.voip.rtc_transports:
        answer["org.matrix.msc4143.rtc_foci"] = config.voip.rtc_transports
    return answer


@endpoints.get("/client", auth=Auth.NONE, limit=Limit.NONE)
async def get_client(call: Call) -> JsonObject:
    """client-server-api#getwell-knownmatrixclient"""
    configuration = client_configuration(call.parts.config)
    if configuration is None:
        raise NotFound("This server does not tell clients where it is")
    return configuration


@endpoints.get("/server", auth=Auth.NONE, limit=Limit.NONE)
async def get_server(call: Call) -> JsonObject:
    """server-server-api#getwell-knownmatrixserver"""
    server = call.parts.config.well_known.server
    if server is None:
        raise NotFound("This server does not tell other servers where it is")
    return {"m.server": server}


@endpoints.get("/support", auth=Auth.NONE, limit=Limit.NONE)
async def get_support(call: Call) -> JsonObject:
    """client-server-api#getwell-knownmatrixsupport"""
    options = call.parts.config.well_known
    answer: JsonObject = {}
    if options.support_contacts:
        answer["contacts"] = [
            {
                "role": contact.role,
                **({"matrix_id": contact.matrix_id} if contact.matrix_id else {}),
                **({"email_address": contact.email_address} if contact.email_address else {}),
            }
            for contact in options.support_contacts
        ]
    if options.support_page is not None:
        answer["support_page"] = options.support_page
    if not answer:
        raise NotFound("This server names nobody to turn to")
    return answer
