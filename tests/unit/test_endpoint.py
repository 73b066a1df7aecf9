"""A declaration's mistakes fail where it is written."""

from __future__ import annotations

import msgspec
import pytest

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Body, Endpoints, route_table
from homeserver.json_types import JsonObject


class Named(msgspec.Struct):
    name: str


def test_a_declaration_has_all_its_paths() -> None:
    endpoints = Endpoints()

    @endpoints.put("/rooms/{room_id}", auth=Auth.USER, unstable=("/unstable/x/{room_id}",))
    async def put_room(call: Call, room_id: str, body: Named) -> JsonObject:
        """client-server-api#a-section"""
        return {}

    assert route_table([endpoints]) == [
        (
            "PUT",
            (
                "/_matrix/client/r0/rooms/{room_id}",
                "/_matrix/client/v3/rooms/{room_id}",
                "/_matrix/client/unstable/x/{room_id}",
            ),
            "user",
            "default",
            "client-server-api#a-section",
        )
    ]
    assert endpoints.declarations[0].body is Body.JSON


def test_forgetting_who_may_call_fails() -> None:
    with pytest.raises(TypeError, match="who may call"):
        Endpoints().get("/x")  # type: ignore[call-arg]


def test_a_path_parameter_that_the_function_lacks_fails() -> None:
    with pytest.raises(TypeError, match="room_id"):

        @Endpoints().get("/rooms/{room_id}", auth=Auth.NONE)
        async def get_room(call: Call) -> JsonObject:
            """section"""
            return {}


def test_a_parameter_that_a_path_lacks_needs_a_default() -> None:
    with pytest.raises(TypeError, match="default"):

        @Endpoints().get("/state/{key}", also=("/state",), auth=Auth.NONE)
        async def get_state(call: Call, key: str) -> JsonObject:
            """section"""
            return {}


def test_a_body_of_another_type_fails() -> None:
    with pytest.raises(TypeError, match="JsonObject or a msgspec Struct"):

        @Endpoints().post("/x", auth=Auth.NONE)
        async def post(call: Call, body: list[str]) -> JsonObject:
            """section"""
            return {}


def test_a_handler_without_its_section_fails() -> None:
    with pytest.raises(TypeError, match="docstring"):

        @Endpoints().get("/x", auth=Auth.NONE)
        async def get(call: Call) -> JsonObject:
            return {}
