"""Which declaration serves a path."""

from __future__ import annotations

import pytest

from homeserver.config import Limits
from homeserver.errors import InvalidParam, Unrecognized
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.router import Route, Router
from homeserver.json_types import JsonObject

endpoints = Endpoints(prefix="", versions=())


@endpoints.get("/profile/{user_id}/{field}", auth=Auth.NONE)
async def get_field(call: Call, user_id: str, field: str) -> JsonObject:
    """section"""
    return {}


@endpoints.put("/profile/{user_id}/name", auth=Auth.NONE)
async def put_name(call: Call, user_id: str) -> JsonObject:
    """section"""
    return {}


@endpoints.get("/profile/{user_id}/color", auth=Auth.NONE)
async def get_color(call: Call, user_id: str) -> JsonObject:
    """section"""
    return {}


@endpoints.get("/rules/", auth=Auth.NONE)
async def get_rules(call: Call) -> JsonObject:
    """section"""
    return {}


router = Router(Route(d, Limits()) for d in endpoints.declarations)


def found(method: str, path: str) -> tuple[object, dict[str, str]]:
    route, values = router.find(method, path)
    return route.declaration.handler, values


def test_a_static_segment_comes_before_a_parameter() -> None:
    assert found("GET", "/profile/@a:b/color") == (get_color, {"user_id": "@a:b"})


def test_a_parameter_serves_the_methods_that_the_static_segment_lacks() -> None:
    assert found("GET", "/profile/u/name") == (get_field, {"user_id": "u", "field": "name"})


def test_segments_are_decoded_once_and_keep_their_slashes() -> None:
    _, values = found("GET", "/profile/%40a%2Fb%2525/x+y")
    assert values == {"user_id": "@a/b%25", "field": "x+y"}


def test_head_is_served_where_get_is() -> None:
    assert found("HEAD", "/rules/")[0] is get_rules


@pytest.mark.parametrize("path", ["/", "", "/rules", "/profile/u", "/profile//color", "/x/y/z/a"])
def test_an_unknown_path_is_unrecognized(path: str) -> None:
    with pytest.raises(Unrecognized) as refusal:
        router.find("GET", path)
    assert refusal.value.status == 404


def test_a_wrong_method_is_told_the_right_ones() -> None:
    with pytest.raises(Unrecognized) as refusal:
        router.find("POST", "/profile/u/name")
    assert refusal.value.status == 405
    assert refusal.value.headers == {"Allow": "GET, OPTIONS, PUT"}


def test_a_path_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidParam):
        router.find("GET", "/profile/%ff/x")


def test_a_path_declared_twice_fails() -> None:
    routes = [Route(d, Limits()) for d in endpoints.declarations]
    with pytest.raises(ValueError, match="twice"):
        Router([*routes, routes[0]])
