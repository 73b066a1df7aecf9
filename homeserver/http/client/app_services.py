"""Application services and third-party networks. client-server-api#third-party-networks"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject

endpoints = Endpoints()


class PingBody(msgspec.Struct):
    transaction_id: str | None = None


class NetworkVisibility(msgspec.Struct):
    visibility: Literal["public", "private"]


@endpoints.post(
    "/appservice/{service_id}/ping",
    auth=Auth.APP_SERVICE,
    versions=("v1",),
    empty_body=True,
    unstable=("/unstable/fi.mau.msc2659/appservice/{service_id}/ping",),
)
async def ping(call: Call, service_id: str, body: PingBody) -> JsonObject:
    """client-server-api#post_matrixclientv1appserviceappserviceidping"""
    questions = call.parts.app_services.questions
    return await questions.ping(call.requester, service_id, body.transaction_id)


@endpoints.put("/directory/list/appservice/{network_id}/{room_id}", auth=Auth.APP_SERVICE)
async def set_network_visibility(
    call: Call, network_id: str, room_id: str, body: NetworkVisibility
) -> JsonObject:
    """application-service-api#put_matrixclientv3directorylistappservicenetworkidroomid"""
    return await _set_visibility(call, network_id, room_id, body.visibility)


@endpoints.delete("/directory/list/appservice/{network_id}/{room_id}", auth=Auth.APP_SERVICE)
async def unlist_from_network(call: Call, network_id: str, room_id: str) -> JsonObject:
    """Not in the text; older bridges and SyTest use it. As PUT with "private"."""
    return await _set_visibility(call, network_id, room_id, "private")


@endpoints.get(
    "/thirdparty/protocols", auth=Auth.USER, unstable=("/unstable/thirdparty/protocols",)
)
async def get_protocols(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3thirdpartyprotocols"""
    return await call.parts.app_services.questions.protocols()


@endpoints.get("/thirdparty/protocol/{protocol}", auth=Auth.USER)
async def get_protocol(call: Call, protocol: str) -> JsonObject:
    """client-server-api#get_matrixclientv3thirdpartyprotocolprotocol"""
    return await call.parts.app_services.questions.protocol(protocol)


@endpoints.get("/thirdparty/location/{protocol}", auth=Auth.USER)
async def find_locations(call: Call, protocol: str) -> list[Any]:
    """client-server-api#get_matrixclientv3thirdpartylocationprotocol"""
    return await _look_up(call, "location", protocol)


@endpoints.get("/thirdparty/user/{protocol}", auth=Auth.USER)
async def find_users(call: Call, protocol: str) -> list[Any]:
    """client-server-api#get_matrixclientv3thirdpartyuserprotocol"""
    return await _look_up(call, "user", protocol)


@endpoints.get("/thirdparty/location", auth=Auth.USER)
async def find_locations_of_alias(call: Call) -> list[Any]:
    """client-server-api#get_matrixclientv3thirdpartylocation"""
    query = {"alias": call.required_query("alias")}
    return await call.parts.app_services.questions.look_up("location", None, query)


@endpoints.get("/thirdparty/user", auth=Auth.USER)
async def find_users_of_user_id(call: Call) -> list[Any]:
    """client-server-api#get_matrixclientv3thirdpartyuser"""
    query = {"userid": call.required_query("userid")}
    return await call.parts.app_services.questions.look_up("user", None, query)


async def _look_up(call: Call, kind: str, protocol: str) -> list[Any]:
    """The fields that the protocol asks for are passed on, the client's token is not."""
    query = {k: v for k, v in call.request.query.items() if k not in ("access_token", "user_id")}
    return await call.parts.app_services.questions.look_up(kind, protocol, query)


async def _set_visibility(call: Call, network_id: str, room_id: str, visibility: str) -> JsonObject:
    service_id = call.requester.app_service
    assert service_id is not None, "the route is for application services"
    own = call.parts.directories.own
    await own.set_network_visibility(service_id, network_id, room_id, visibility)
    return {}
